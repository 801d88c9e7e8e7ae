-- settle: writes what running attempts came to, each judged alone.
-- ARGV per item: id, grant, outcome (1 completed, 2 failed, 3 retry, 4 cancelled), delay before the retry (ms),
--   error (JSON or ''), result (JSON or ''), provider that ran it, or ''
-- Returns { reply per item, watched ids, next due time or 0 }: the status settled to; the status less 100, settled before under
--   this grant; 0, the grant does not hold
-- Atomic because the reaper may give the job to another worker between check and write.
local replies, next_due = {}, 0

local function settle(id, state, grant, outcome, delay, err, result, provider)
  local job = parse(state)
  if job[GRANT] ~= grant then
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
      tally(string.char(job[STAGE]) .. 'r' .. code_of(err))
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

-- Ends a job as most end: completed, without crash, cancel or concurrency key. False where it is not such a job.
local function complete(id, name, state, grant, result, provider)
  local status, lane, _, _, in_exp, _, chunked, keyed = string.byte(state, 1, 8)
  if status ~= RUNNING or in_exp + keyed > 0 or string.byte(state, AT_CRASHES + 1) > 0 or string.sub(state, AT_CANCEL, AT_COMPLETED - 1) ~= NO_TIME then
    return false
  end
  local ticket, held, worker = struct.unpack('sss', state, AT_TEXTS)
  if held ~= grant then
    return false
  end
  local stage = string.sub(state, AT_STAGE, AT_STAGE)
  local new = string.char(DONE) .. string.sub(state, 2, 3) .. '\0\0\0' .. string.sub(state, 7, AT_UPDATED - 1) .. now_packed .. string.sub(state, AT_STARTED, AT_COMPLETED - 1)
    .. now_packed .. stage .. '\0' .. grant .. '\0' .. worker .. '\0' .. provider .. '\0'
  redis.call('HSET', name, 's', new, 'r', result)
  unlease(id, lane, ticket)
  local ttl = struct.unpack('>I5', state, AT_RESULT_TTL)
  file(id, name, DONE, ttl)
  tally(stage .. 'c')
  if chunked == 1 then
    redis.call('PEXPIRE', base .. ':c:' .. id, text(ttl))
  end
  return DONE
end

for i = 1, #ARGV, 7 do
  local id, grant, outcome, delay, err, result, provider = unpack(ARGV, i, i + 6)
  local name = RECORD .. id
  local state = redis.call('HGET', name, 's')
  replies[(i + 6) / 7] = not state and 0 or outcome == '1' and complete(id, name, state, grant, result, provider)
    or settle(id, state, grant, outcome, delay, err, result, provider)
end
flush()
return { replies, watched(touched), next_due }
