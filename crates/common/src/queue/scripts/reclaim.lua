-- reclaim: revokes the grants of workers that died or fell silent, and of those that ignored a cancel.
-- ARGV[1] most jobs   ARGV[2] lease, ms   ARGV[3] liveness, ms   ARGV[4] gap between two runs that means an outage, ms
-- ARGV[5] delay of a retry after the second crash, ms, or -1: no retry
-- Returns { { id, status } per job, watched ids, workers found dead, held (1: judged no worker) }
-- Atomic because the holder may renew or settle between check and write. Never executes what it reclaims.
local most, lease, liveness, gap, delay = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local reclaimed = {}

-- Unlike a settled one, a revoked grant is answered "lost": its holder's run does not count.
local function take_away(id, job)
  revoke(id, job)
  job[GRANT] = string.match(job[GRANT], '^%d+') .. '.'
end

-- Holders that did not confirm a cancel in time lose their grant. Nobody has to be judged dead for that.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. ':cancels', '-inf', now, 'LIMIT', 0, most)) do
  local job = load(id)
  if job and job[STATUS] == RUNNING and job[CANCEL_AT] > 0 then
    take_away(id, job)
    finish(id, job, CANCELLED, '{"code":"cancelled","message":"cancelled while it ran; its worker did not confirm"}', '')
    reclaimed[#reclaimed + 1] = { id, CANCELLED }
  else
    redis.call('ZREM', base .. ':cancels', id)
  end
end
-- The watermark: after an outage or a step of the clock, leases and beats say nothing; wait one lease.
local control = redis.call('HMGET', base .. ':ctl', 'reaped', 'hold')
local since = now - tonumber(control[1] or now)
local hold = tonumber(control[2] or 0)
if since > gap or since < 0 or hold > now + 2 * math.max(lease, liveness) then
  hold = now + math.max(lease, liveness)
  redis.call('HSET', base .. ':ctl', 'hold', hold)
end
redis.call('HSET', base .. ':ctl', 'reaped', now)
if hold > now then
  -- The clock may have stepped back: who died before would count as alive, and a cancel be waited for, until it is where it was.
  local more = draw_near(':workers', now, most)
  more = draw_near(':leases', now + lease, most) or more
  more = draw_near(':cancels', now + PATIENCE, most) or more
  if more then
    redis.call('HSET', base .. ':ctl', 'hold', now + math.max(lease, liveness))
  end
  flush()
  return { reclaimed, watched(touched), 0, 1 }
end

local function crash(id, job, charged)
  local message = charged and 'the worker died or fell silent while it held the job'
    or 'the worker died, most likely of another job'
  local err = '{"code":"stale_worker","message":"' .. message .. '"}'
  if charged then
    job[CRASHES] = job[CRASHES] + 1
  end
  if job[CANCEL_AT] > 0 then
    return finish(id, job, CANCELLED, '{"code":"cancelled","message":"cancelled while it ran"}', '')
  elseif job[CRASHES] > job[MAX_CRASHES] or (charged and job[CRASHES] > 1 and delay < 0) then
    return finish(id, job, FAILED, err, '')
  end
  redis.call('HSET', RECORD .. id, 'e', err)
  tally(string.char(job[STAGE]) .. 'rstale_worker')
  if charged and job[CRASHES] > 1 then
    schedule(id, job, RETRYING, now + delay)
    index_deadline(id, job)
  else
    job[STATUS], job[FRONT] = RETRYING, 1
    count('retrying', 1)
    push(id, job)
  end
  save(id, job)
  touched[#touched + 1] = id
end

local function reclaim(id, job, dead)
  -- Where a suspect ran beside others on a worker that died, only the suspect pays.
  local suspect = redis.call('HGET', base .. ':suspects', job[WORKER])
  local charged = not (dead and suspect and suspect ~= id)
  take_away(id, job)
  if dead and suspect then
    redis.call('HSET', base .. ':suspects', job[WORKER], suspect)
  end
  crash(id, job, charged)
  reclaimed[#reclaimed + 1] = { id, job[STATUS] }
end

-- Leases that are over, found by their end.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. ':leases', '-inf', now, 'LIMIT', 0, most)) do
  local job = load(id)
  if job and job[STATUS] == RUNNING then
    reclaim(id, job, false)
  else
    redis.call('ZREM', base .. ':leases', id)
  end
end

-- Jobs of dead workers, at once.
local dead = redis.call('ZRANGEBYSCORE', base .. ':workers', '-inf', now - liveness, 'LIMIT', 0, 10)
for _, worker in ipairs(dead) do
  local left = false
  for lane = #LANES, 1, -1 do
    local pending = redis.pcall('XPENDING', base .. LANES[lane], 'workers', '-', '+', most, worker)
    for _, entry in ipairs(pending.err and {} or pending) do
      left = true
      local found = redis.call('XRANGE', base .. LANES[lane], entry[1], entry[1])[1]
      local id = found and found[2][2]
      local job = id and load(id)
      if job and job[STATUS] == RUNNING and job[TICKET] == entry[1] then
        if #reclaimed < most then
          reclaim(id, job, true)
        end
      else
        redis.call('XACK', base .. LANES[lane], 'workers', entry[1])
      end
    end
  end
  if not left then
    for lane = 1, #LANES do
      redis.pcall('XGROUP', 'DELCONSUMER', base .. LANES[lane], 'workers', worker)
    end
    redis.call('ZREM', base .. ':workers', worker)
    redis.call('HDEL', base .. ':info', worker)
    redis.call('HDEL', base .. ':claims', worker)
    redis.call('HDEL', base .. ':suspects', worker)
  end
end

flush()
return { reclaimed, watched(touched), #dead, 0 }
