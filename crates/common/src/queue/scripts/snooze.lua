-- snooze: puts running jobs off without counting the attempt: the provider is full, limited or asleep.
-- ARGV per item: id, grant, delay (ms), error that says why (JSON or '')
-- Returns { reply per item, watched ids, next due time or 0 }, replies as in hand_back
-- Atomic because the reaper may give the job to another worker between check and write.
local replies, next_due = {}, 0

local function snooze(id, grant, delay, err)
  local job = load(id)
  if not job or job[GRANT] ~= grant then
    return 0
  elseif job[STATUS] ~= RUNNING then
    return job[STATUS] - 100
  end
  if take_back(id, job) then
    job[FRONT] = 1
    schedule(id, job, SCHEDULED, now + delay)
    index_deadline(id, job)
    next_due = next_due == 0 and job[RUN_AT] or math.min(next_due, job[RUN_AT])
    if err ~= '' then
      redis.call('HSET', RECORD .. id, 'e', err)
    end
    save(id, job)
    touched[#touched + 1] = id
  end
  return job[STATUS]
end

for i = 1, #ARGV, 4 do
  replies[#replies + 1] = snooze(ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3])
end
flush()
return { replies, watched(touched), next_due }
