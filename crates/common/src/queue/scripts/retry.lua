-- retry: runs ended jobs again, with a new budget and a new deadline.
-- ARGV[1] most jobs that may wait   ARGV[2] new input, or '' to keep the old   ARGV[3] 1: there is a new input
-- ARGV[4] most bytes of input that may wait   ARGV[5] nonce of this call   then ids
-- Returns { reply per job, watched ids }: { 0 } unknown, { 1, status } runs again, { 2 } not ended, { 3 } full, { 4, holder } key held
-- Atomic because retention may end, and another retry may come, between check and write. The same nonce gets the same answer.
local waiting, bytes = read_counters('', '')

local function retry(id)
  local name = RECORD .. id
  local job = load(id)
  if not job then
    return { 0 }
  elseif redis.call('HGET', name, 'n') == ARGV[5] then
    return { 1, job[STATUS] }
  elseif job[STATUS] < DONE then
    return { 2 }
  end
  local size = job[BYTES]
  if ARGV[3] == '1' then
    -- The audio of an upload stays.
    local audio = base .. ':a:' .. id
    local pieces = redis.call('HLEN', audio)
    local whole = pieces > 1 and (pieces - 1) * redis.call('HSTRLEN', audio, 0) or 0
    size = #ARGV[2] + whole + (pieces > 0 and redis.call('HSTRLEN', audio, pieces - 1) or 0)
  end
  if waiting + 1 > tonumber(ARGV[1]) or bytes + size > tonumber(ARGV[4]) then
    return { 3 }
  end
  local holder = job[KEY] ~= '' and job[CONFLICT] == 1 and holder_of(job[KEY])
  if holder then
    return { 4, holder }
  end
  redis.call('ZREM', base .. ENDED[job[STATUS]], id)
  redis.call('ZADD', base .. ':open', 0, id)
  redis.call('PERSIST', name)
  redis.call('HDEL', name, 'r', 'e', 'p')
  redis.call('HSET', name, 'n', ARGV[5])
  redis.call('DEL', base .. ':c:' .. id)
  if ARGV[3] == '1' then
    redis.call('HDEL', name, 'i', 'I')
    local facts = struct.pack(FACTS, unpack(job, CONFLICT, ALL_FIELDS))
    redis.call('HSET', name, 'f', #ARGV[2] > INLINE and facts or facts .. ARGV[2])
    if #ARGV[2] > INLINE then
      redis.call('HSET', name, size > LARGE and 'I' or 'i', ARGV[2])
    end
  end
  job[BYTES] = size
  job[ATTEMPTS], job[FAILURES], job[CRASHES], job[FRONT], job[CHUNKED] = 0, 0, 0, 0, 0
  job[STARTED], job[RENEWED], job[FIRST_CHUNK], job[CANCEL_AT], job[COMPLETED] = 0, 0, 0, 0, 0
  job[WORKER], job[PROVIDER] = '', ''
  job[STATUS], job[RUN_AT], job[EXPIRES] = QUEUED, now, now + job[QUEUE_TIMEOUT]
  tally(string.char(job[STAGE]) .. 'b')
  -- The old grant must not match again; its number stays, so that chunk ids go on growing.
  job[GRANT] = (string.match(job[GRANT], '^%d+') or '0') .. '.'
  enter(id, job)
  save(id, job)
  waiting, bytes = waiting + 1, bytes + size
  touched[#touched + 1] = id
  return { 1, job[STATUS] }
end

local replies = {}
for i = 6, #ARGV do
  replies[#replies + 1] = retry(ARGV[i])
end
flush()
return { replies, watched(touched) }
