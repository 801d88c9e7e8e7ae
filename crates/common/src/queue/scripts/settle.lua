-- settle: writes what running attempts came to, each judged alone.
-- ARGV per item: id, grant, outcome (1 completed, 2 failed, 3 retry, 4 cancelled), delay before the retry (ms),
--   error (JSON or ''), result (JSON or ''), provider that ran it, or ''
-- Returns { reply per item, watched ids, next due time or 0 }: the status settled to; the status less 100, settled before under
--   this grant; 0, the grant does not hold
-- Atomic because the reaper may give the job to another worker between check and write.
local replies, next_due = {}, 0

local function settle(id, grant, outcome, delay, err, result, provider)
  local job = load_state(id)
  if not job or job[GRANT] ~= grant then
    return 0
  elseif job[STATUS] ~= RUNNING then
    return job[STATUS] - 100
  end
  if outcome == '3' or job[KEYED] == 1 then
    load_facts(id, job)
  end
  revoke(id, job)
  if outcome == '3' then
    delay = tonumber(delay)
    job[FAILURES] = job[FAILURES] + 1
    if job[CANCEL_AT] > 0 then
      outcome, err = '4', '{"code":"cancelled","message":"cancelled while it ran"}'
    elseif job[FAILURES] >= job[MAX_ATTEMPTS] then
      outcome = '2'
    else
      -- A failed run starts a new wait: its deadline counts from the retry.
      job[EXPIRES] = now + delay + job[QUEUE_TIMEOUT]
      schedule(id, job, RETRYING, now + delay)
      next_due = next_due == 0 and job[RUN_AT] or math.min(next_due, job[RUN_AT])
      job[PROVIDER] = provider
      redis.call('HSET', RECORD .. id, 'e', err)
      -- What it had put out stays visible, until a later attempt puts out more.
      if result ~= '' then
        redis.call('HSET', RECORD .. id, 'r', result)
      end
      save(id, job)
      touched[#touched + 1] = id
      return RETRYING
    end
  elseif outcome == '2' then
    job[FAILURES] = job[FAILURES] + 1
  end
  local status = outcome == '1' and DONE or outcome == '2' and FAILED or CANCELLED
  finish(id, job, status, err, result, provider)
  return status
end

for i = 1, #ARGV, 7 do
  replies[(i + 6) / 7] =
    settle(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
end
flush()
return { replies, watched(touched), next_due }
