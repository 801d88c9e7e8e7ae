-- audit: the second net. Finds what the moves cannot have left behind: an entry without its job, a job without its entry.
-- ARGV[1] most entries and jobs per call   ARGV[2] lease, ms   ARGV[3] consumer name to park entries under
-- ARGV[4] 1: the pool drains by model; else jobs that wait for a turn, from the time when it did, get an entry
-- Returns what was mended, each as its kind and the job's id
-- Atomic because the job may move between check and write.
-- Needed after a stream was deleted, a consumer removed by hand, or a failover forgot the last steps.
local most, mended, by_model = tonumber(ARGV[1]), {}, ARGV[4] == '1'

local function note(what, id)
  mended[#mended + 1] = what .. ' ' .. id
end

-- A waiting job's entry is read by claim alone; one that is pending, or gone, will never be claimed: a new ticket.
local function requeue(id, job)
  if job[STATUS] ~= QUEUED and job[STATUS] ~= RETRYING or job[TICKET] == '' then
    return
  end
  pull(id, job)
  job[FRONT] = 1
  push(id, job, not by_model)
  save(id, job)
  note('waiting job without an entry', id)
end

-- One page of each lane's pending entries, idle for a lease; the cursor is kept, so that fresh ones hide no old one.
for lane = 1, #LANES do
  local field = 'cursor' .. lane
  local cursor = redis.call('HGET', base .. ':ctl', field) or '0-0'
  local page = redis.pcall('XAUTOCLAIM', base .. LANES[lane], 'workers', ARGV[3], ARGV[2], cursor, 'COUNT', most)
  if not page.err then
    redis.call('HSET', base .. ':ctl', field, page[1])
    for _, entry in ipairs(page[2]) do
      local id = entry[2][2]
      local job = load(id)
      if not job or job[TICKET] ~= entry[1] then
        redis.call('XACK', base .. LANES[lane], 'workers', entry[1])
        redis.call('XDEL', base .. LANES[lane], entry[1])
        note('entry without its job', id)
      elseif job[STATUS] ~= RUNNING then
        redis.call('XACK', base .. LANES[lane], 'workers', entry[1])
        requeue(id, job)
      elseif not redis.call('ZSCORE', base .. ':leases', id) then
        redis.call('ZADD', base .. ':leases', now, id)
        note('pending entry without a lease', id)
      end
    end
  end
end

-- One page of the open jobs.
local after = redis.call('HGET', base .. ':ctl', 'audited') or ''
local page = redis.call('ZRANGEBYLEX', base .. ':open', after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, most)
redis.call('HSET', base .. ':ctl', 'audited', #page < most and '' or page[#page])
for _, id in ipairs(page) do
  local job = load(id)
  if not job or job[STATUS] >= DONE then
    redis.call('ZREM', base .. ':open', id)
    note('ended job among the open ones', id)
  elseif job[STATUS] == RUNNING then
    if redis.call('ZADD', base .. ':leases', 'NX', now + tonumber(ARGV[2]), id) == 1 then
      note('running job without a lease', id)
    end
  elseif job[TICKET] == NO_ENTRY and by_model then
    if not redis.call('ZSCORE', turn_set(job), id) then
      requeue(id, job)
    end
  elseif job[TICKET] ~= '' then
    if #redis.call('XRANGE', base .. LANES[job[LANE]], job[TICKET], job[TICKET]) == 0 then
      requeue(id, job)
    end
  elseif job[STATUS] == BLOCKED then
    local holder = holder_of(job[KEY])
    if not holder then
      redis.call('SET', base .. ':k:' .. job[KEY], id)
      withdraw(id, job)
      job[STATUS] = QUEUED
      push(id, job)
      save(id, job)
      note('blocked job without a holder', id)
    end
  elseif redis.call('ZADD', base .. ':due', 'NX', job[RUN_AT], id) == 1 then
    note('delayed job without its due time', id)
  end
end
flush()
return mended
