-- renew: a worker's beat, and the lease of every job it lists.
-- ARGV[1] worker   ARGV[2] lease, ms   ARGV[3] what the worker says of itself (JSON)   ARGV[4] 1: also name unlisted jobs
-- Then per job: id, grant
-- Returns { reply per job, unlisted }: reply 1 renewed, 2 renewed and asked to cancel, 3 the grant does not hold;
--   unlisted: { id, grant } of jobs that this worker holds and did not list
-- Atomic because a lease that went to another worker must not be taken back: XCLAIM checks no owner.
local worker, lease = ARGV[1], tonumber(ARGV[2])
redis.call('ZADD', base .. ':workers', now, worker)
redis.call('HSET', base .. ':info', worker, ARGV[3])

local function renew(id, grant)
  local job = load(id)
  if not job or job[STATUS] ~= RUNNING or job[GRANT] ~= grant then
    return 3
  end
  -- Never past the attempt's own time and one lease: a hung executor loses its job.
  local last = job[STARTED] + job[TIMEOUT] + lease
  if last < now + lease then
    -- Over a step of the clock, or an outage, its time begins anew, when the reaper judges again.
    last = math.max(last, tonumber(redis.call('HGET', base .. ':ctl', 'hold') or 0) + job[TIMEOUT])
  end
  redis.call('ZADD', base .. ':leases', math.min(now + lease, last), id)
  redis.call('XCLAIM', base .. LANES[job[LANE]], 'workers', worker, 0, job[TICKET], 'IDLE', 0, 'JUSTID')
  job[RENEWED] = now
  save(id, job)
  return job[CANCEL_AT] > 0 and 2 or 1
end

local replies, listed = {}, {}
for i = 5, #ARGV, 2 do
  replies[#replies + 1] = renew(ARGV[i], ARGV[i + 1])
  listed[ARGV[i]] = true
end

local unlisted = {}
if ARGV[4] == '1' then
  for lane = 1, #LANES do
    local pending = redis.pcall('XPENDING', base .. LANES[lane], 'workers', '-', '+', 1024, worker)
    for _, entry in ipairs(pending.err and {} or pending) do
      local found = redis.call('XRANGE', base .. LANES[lane], entry[1], entry[1])[1]
      local id = found and found[2][2]
      local job = id and not listed[id] and load(id)
      if job and job[STATUS] == RUNNING and job[WORKER] == worker and job[TICKET] == entry[1] then
        unlisted[#unlisted + 1] = { id, job[GRANT] }
      end
    end
  end
end
return { replies, unlisted }
