-- enqueue: accepts jobs, each judged alone.
-- ARGV[1] most jobs that may wait   ARGV[2] most bytes of input that may wait   ARGV[3] liveness, ms
-- Then per job: id, packed state (times and status empty), spec (JSON), input, metadata (JSON or ''),
--   delay before the first attempt (ms), whether it wants a live worker (0 or 1)
-- Returns { reply per job, watched ids }: { 1, status, created, run_at, expires } accepted; { 2 } this id is there already;
--   { 3 } full; { 4, holder } key held; { 5 } no live worker; { 6 } this id came and went
-- Atomic because record, ticket, key and limits must agree; sent again, it answers 2.
local waiting, bytes = waiting_now()
local max_waiting, max_bytes, liveness = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local function refusal(id, job, due, wants_worker)
  local seen = redis.call('HMGET', RECORD .. id, 's', 'gone')
  if seen[1] then
    return { 2 }
  elseif seen[2] then
    return { 6 }
  elseif wants_worker == '1' and redis.call('ZCOUNT', base .. ':workers', now - liveness, '+inf') == 0 then
    return { 5 }
  elseif waiting + 1 > max_waiting or bytes + job[BYTES] > max_bytes then
    return { 3 }
  elseif job[KEY] ~= '' and job[CONFLICT] == 1 and due <= now then
    local holder = holder_of(job[KEY])
    return holder and { 4, holder }
  end
end

local function accept(id, job, due, spec, input, metadata)
  job[CREATED], job[UPDATED], job[RUN_AT], job[EXPIRES] = now, now, due, due + job[QUEUE_TIMEOUT]
  if job[IDEMPOTENT_UNTIL] > 0 then
    job[IDEMPOTENT_UNTIL] = now + job[IDEMPOTENT_UNTIL]
  end
  if due > now then
    schedule(id, job, SCHEDULED, due)
  else
    enter(id, job)
  end
  -- Claim copies `i`; a large input is read by the attempt that needs it.
  local field = job[BYTES] > 65536 and 'I' or 'i'
  if metadata == '' then
    redis.call('HSET', RECORD .. id, 's', pack(job), 'm', spec, field, input)
  else
    redis.call('HSET', RECORD .. id, 's', pack(job), 'm', spec, field, input, 'd', metadata)
  end
  defer('ZADD', ':open', '0', id)
  for tag in string.gmatch(job[TAGS], '%S+') do
    defer('ZADD', ':t:' .. tag, '0', id)
  end
  waiting, bytes = waiting + 1, bytes + job[BYTES]
  return { 1, job[STATUS], now, due, job[EXPIRES] }
end

local replies = {}
for i = 4, #ARGV, 7 do
  local id, job = ARGV[i], parse(ARGV[i + 1])
  local due = math.max(job[RUN_AT], now + tonumber(ARGV[i + 5]))
  replies[#replies + 1] = refusal(id, job, due, ARGV[i + 6]) or accept(id, job, due, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
end
flush()
return { replies, watched(touched) }
