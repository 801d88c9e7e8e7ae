-- promote: queues what is due by Redis' own clock: scheduled jobs, and retries.
-- ARGV[1] most jobs
-- Returns { how many, next due time or 0, watched ids }
-- Atomic because all processes promote at once, and a job must enter its stream once.
local due = redis.call('ZRANGEBYSCORE', base .. ':due', '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(due) do
  redis.call('ZREM', base .. ':due', id)
  local job = load(id)
  if job and job[TICKET] == '' and (job[STATUS] == SCHEDULED or job[STATUS] == RETRYING) then
    count('bytes', -job[BYTES])
    if job[STATUS] == SCHEDULED then
      count('scheduled', -1)
    end
    if job[EXPIRES] <= now then
      if job[STATUS] == RETRYING then
        count('retrying', -1)
      end
      finish(id, job, EXPIRED, deadline_error(job), '')
    else
      enter(id, job)
      save(id, job)
      touched[#touched + 1] = id
    end
  end
end
flush()
local next_due = redis.call('ZRANGE', base .. ':due', 0, 0, 'WITHSCORES')
return { #due, tonumber(next_due[2] or 0), watched(touched) }
