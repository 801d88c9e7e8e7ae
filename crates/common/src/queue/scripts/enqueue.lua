-- enqueue: accepts jobs of any kind, each judged alone. Those with nothing of their own take enqueue_plain.lua.
-- ARGV[1] most jobs that may wait   ARGV[2] most bytes of input that may wait   ARGV[3] liveness, ms
-- ARGV[4] the jobs' stages, each a line `<task><tab><model>`   ARGV[5] their owners' services, each a line
-- Then per job: id, plan (below), facts with a small input behind them, an input that is not small or '', metadata (JSON or '')
-- Returns { now, reply per job, watched ids }: its status, accepted; or { 2 } this id is there already; { 3 } full;
--   { 4, holder } key held; { 5 } no live worker; { 6 } this id came and went; { 7 } its audio is not there whole
-- Atomic because record, ticket, key and limits must agree; sent again, it answers 2.
local waiting, bytes = read_counters(ARGV[4], ARGV[5])
local max_waiting, max_bytes, liveness = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
-- Priority, whether it has a concurrency key, whether it wants a live worker, first run not before this time and not before this
-- delay, how long the result is kept, bytes of input and audio, which stage and which service, counted
-- from 1; 0 none; pieces of audio.
local PLAN = '>BBBI6I5I5I4BBI4'

-- All are looked for at once: that one is there is rare. A call may bring the same id twice.
local records, accepted = {}, {}
for i = 6, #ARGV, 5 do
  records[#records + 1] = RECORD .. ARGV[i]
end
local some_there = redis.call('EXISTS', unpack(records)) > 0

local function refusal(id, name, job, wants_worker, pieces)
  if accepted[id] or some_there and redis.call('EXISTS', name) == 1 then
    return redis.call('HEXISTS', name, 's') == 1 and { 2 } or { 6 }
  elseif wants_worker == 1 and redis.call('ZCOUNT', base .. ':workers', now - liveness, '+inf') == 0 then
    return { 5 }
  elseif waiting + 1 > max_waiting or bytes + job[BYTES] > max_bytes then
    return { 3 }
  elseif pieces > 0 and redis.call('HLEN', base .. ':a:' .. id) ~= pieces then
    return { 7 }
  elseif job[KEYED] == 1 and job[CONFLICT] == 1 and job[RUN_AT] <= now then
    local holder = holder_of(job[KEY])
    return holder and { 4, holder }
  end
end

local opened = batch_of('ZADD', ':open')
local function accept(id, name, job, facts, input, metadata, stage, service, pieces)
  job[STAGE] = enter_stage(stage)
  if service > 0 then
    enter_service(service)
  end
  if job[CONFLICT] == 3 then
    -- It may end jobs of this very call, and whoever ends them takes them out again later.
    send(opened)
  end
  if job[RUN_AT] > now then
    schedule(id, job, SCHEDULED, job[RUN_AT])
  else
    enter(id, job)
  end
  redis.call('HSET', name, 's', pack(job), 'f', facts)
  if input ~= '' then
    redis.call('HSET', name, job[BYTES] > LARGE and 'I' or 'i', input)
  end
  if metadata ~= '' then
    redis.call('HSET', name, 'd', metadata)
  end
  if pieces > 0 then
    -- From here on it goes with the record.
    redis.call('PERSIST', base .. ':a:' .. id)
  end
  add(opened, '0', id)
  if job[KEYED] == 1 or service > 0 then
    for _, listing in ipairs(listings(job)) do
      defer('ZADD', listing, '0', id)
    end
  end
  waiting, bytes, accepted[id] = waiting + 1, bytes + job[BYTES], true
  return job[STATUS]
end

local replies = {}
for i = 6, #ARGV, 5 do
  local id, name, facts = ARGV[i], records[(i - 1) / 5], ARGV[i + 2]
  local priority, keyed, wants_worker, run_at, delay, ttl, size, stage, service, pieces = struct.unpack(PLAN, ARGV[i + 1])
  local due = math.max(run_at, now + delay)
  -- In the order of the state, then the facts.
  local job = { 0, 0, priority, 0, 0, 0, 0, keyed, 0, 0, 0, due, 0, ttl, size, now, now, 0, 0, 0, 0, 0, 0, '', '', '', '', struct.unpack(FACTS, facts) }
  job[EXPIRES] = due + job[QUEUE_TIMEOUT]
  replies[#replies + 1] = refusal(id, name, job, wants_worker, pieces)
    or accept(id, name, job, facts, ARGV[i + 3], ARGV[i + 4], stage, service, pieces)
end
write_counters()
flush()
return { now, replies, watched(touched) }
