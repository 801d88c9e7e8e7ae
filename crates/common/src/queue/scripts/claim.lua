-- claim: gives a worker waiting jobs, each under a new grant.
-- ARGV[1] worker   ARGV[2] nonce of this call   ARGV[3] most jobs   ARGV[4] lease, ms
-- Then, in a pool that drains by model, whose turn it is: a label under which jobs wait, the model that is to run, …
-- Returns { state, jobs, watched ids }: state 0 nothing left, 1 there may be more, 2 paused; of each job, one after the other
--   (a table of its own would cost more than all four): id, state, facts with a small input, an input of medium size or false
-- Atomic because entry, grant and lease must agree. The same nonce gets the same jobs again.
local worker, nonce, most, lease_end = ARGV[1], ARGV[2], tonumber(ARGV[3]), text(now + tonumber(ARGV[4]))
local jobs, taken = {}, 0
local ids = { nonce }
local first_grant = text(now) .. '.' .. nonce

local function deliver(id, bytes, state, facts)
  local at = 4 * taken
  taken = taken + 1
  ids[taken + 1] = id
  jobs[at + 1], jobs[at + 2], jobs[at + 3] = id, state, facts
  jobs[at + 4] = bytes > INLINE and bytes <= LARGE and redis.call('HGET', RECORD .. id, 'i')
end

local replayed = redis.call('HGET', base .. ':claims', worker)
if replayed and string.match(replayed, '^%S+') == nonce then
  for id in string.gmatch(replayed, ' (%S+)') do
    local job = load_state(id)
    if job and job[STATUS] == RUNNING and job[GRANT] == string.match(job[GRANT], '^%d+') .. '.' .. nonce then
      deliver(id, job[BYTES], pack(job), redis.call('HGET', RECORD .. id, 'f'))
    end
  end
  return { 1, jobs, {} }
end

local control = redis.call('HMGET', base .. ':ctl', 'paused', 'turn', 'suspects')
if control[1] then
  return { 2, jobs, {} }
end

-- Most jobs are claimed for the first time, plain: then only the head, the times and the texts change, for all alike.
local function head(status, lane, phase, attempts)
  return string.char(status, lane, lane, phase, 0, 0, 0, 0, 0, 0, 0, attempts)
end
local waiting, running = {}, {}
for lane = 1, 3 do
  waiting[lane], running[lane] = head(QUEUED, lane, 0, 0), head(RUNNING, lane, 1, 1)
end
local plain, plain_bytes, leases = { 0, 0, 0 }, 0, batch_of('ZADD', ':leases')
local times = now_packed .. now_packed .. now_packed .. NO_TIME .. NO_TIME .. NO_TIME
local texts_behind = '\0' .. first_grant .. '\0' .. worker .. '\0\0'

-- False where it is not such a job; the lanes of those that were claimed before have none.
local function take_first(lane, entry, id, name, state, facts)
  -- Looked for where they must stand: a part that is cut out would be a new text, with a hash of its own. Four bytes behind the
  -- ticket end the four texts, of which three are then empty.
  if lane > 3 or string.find(state, waiting[lane], 1, true) ~= 1 or string.find(state, entry, AT_TEXTS, true) ~= AT_TEXTS
    or #state ~= AT_TEXTS + #entry + 3 then
    return false
  end
  local expires, _, bytes = struct.unpack('>I6I5I4', state, AT_EXPIRES)
  if expires <= now then
    return false
  end
  plain[lane] = plain[lane] + 1
  plain_bytes = plain_bytes + bytes
  local new = running[lane] .. string.sub(state, 13, AT_UPDATED - 1) .. times .. string.sub(state, AT_STAGE, AT_STAGE) .. entry .. texts_behind
  redis.call('HSET', name, 's', new)
  add(leases, lease_end, id)
  deliver(id, bytes, new, facts)
  return true
end

-- Gives one entry's job to the worker; an entry that is not the job's ticket is dropped.
local function take(lane, entry, id)
  local name = RECORD .. id
  local record = redis.call('HMGET', name, 's', 'f')
  if record[1] and take_first(lane, entry, id, name, record[1], record[2]) then
    return
  end
  local job = record[1] and parse(record[1])
  if not job or job[TICKET] ~= entry or job[STATUS] == RUNNING then
    drop(lane, entry)
    return
  end
  unpush(job)
  if job[STATUS] == RETRYING then
    count('retrying', -1)
  end
  if job[EXPIRES] <= now then
    drop(lane, entry)
    add_facts(job, record[2])
    return finish(id, job, EXPIRED, deadline_error(job), '')
  end
  if job[IN_EXP] == 1 then
    job[IN_EXP] = 0
    redis.call('ZREM', base .. ':exp', id)
  end
  if job[GRANT] == '' then
    job[GRANT] = first_grant
  else
    job[GRANT] = text(math.max(tonumber(string.match(job[GRANT], '^%d+')) + 1, now)) .. '.' .. nonce
  end
  job[STATUS], job[PHASE], job[WORKER], job[FRONT] = RUNNING, 1, worker, 0
  job[ATTEMPTS] = job[ATTEMPTS] + 1
  job[STARTED], job[RENEWED], job[UPDATED], job[FIRST_CHUNK] = now, now, now, 0
  local packed = pack(job)
  redis.call('HSET', name, 's', packed)
  add(leases, lease_end, id)
  deliver(id, job[BYTES], packed, record[2])
  return job
end

local looked, dry = 0, {}
local function read(lane, wanted)
  -- At most 2n entries are looked at: a pile of stale ones must not make one call long.
  wanted = math.min(wanted, most - taken, 2 * most - looked)
  if wanted <= 0 or dry[lane] then
    return
  end
  local reply = redis.pcall('XREADGROUP', 'GROUP', 'workers', worker, 'COUNT', wanted, 'STREAMS', base .. LANES[lane], '>')
  if reply and reply.err then
    -- No stream or no group yet, or no longer: entries that were there before count, so from 0.
    redis.call('XGROUP', 'CREATE', base .. LANES[lane], 'workers', '0', 'MKSTREAM')
    reply = redis.call('XREADGROUP', 'GROUP', 'workers', worker, 'COUNT', wanted, 'STREAMS', base .. LANES[lane], '>')
  end
  local entries = reply and reply[1][2] or {}
  dry[lane] = #entries < wanted
  for _, entry in ipairs(entries) do
    looked = looked + 1
    local job = take(lane, entry[1], entry[2][2])
    if job and lane == SUSPECT_LANE then
      redis.call('HSET', base .. ':suspects', worker, entry[2][2])
    end
  end
end

-- One suspect at a time per worker, so that the next crash tells who did it.
local suspects, wants_suspect = tonumber(control[3] or 0), false
if suspects > 0 then
  -- One that was taken away while this worker was thought dead is none of its own any more.
  local held = redis.call('HGET', base .. ':suspects', worker)
  local job = held and load(held)
  if not (job and job[STATUS] == RUNNING and job[WORKER] == worker) then
    read(SUSPECT_LANE, 1)
    wants_suspect = taken == 0
  end
end
read(FRONT_LANE, most)
-- Strict order, but of ten jobs one place is the lowest priority's first and two are the middle one's.
local turn, low, normal, look = tonumber(control[2] or 0), 0, 0, read
if ARGV[5] then
  -- Jobs of a rank that have the turn get entries in the front lane. It must be empty: only then the next ones read are these.
  local function give_entries(rank, wanted)
    wanted = dry[FRONT_LANE] and math.min(wanted, most - taken, 2 * most - looked) or 0
    local given, least, last = 0, text(rank * PER_RANK), text((rank + 1) * PER_RANK - 1)
    for i = 5, #ARGV, 2 do
      local label, room = ARGV[i], math.max(wanted, 64)
      local waiters = given < wanted and redis.call('ZRANGEBYSCORE', base .. ':m:' .. label, least, last, 'LIMIT', 0, room) or {}
      for _, id in ipairs(waiters) do
        local job = given < wanted and load(id)
        if job and job[TICKET] == NO_ENTRY and cjson.decode(job[SPEC]).m == ARGV[i + 1] then
          redis.call('ZREM', base .. ':m:' .. label, id)
          if rank == RANKS then
            redis.call('HINCRBY', base .. ':ctl', 'suspects', -1)
            redis.call('HSET', base .. ':suspects', worker, id)
          end
          job[LANE], job[TICKET] = FRONT_LANE, redis.call('XADD', base .. LANES[FRONT_LANE], '*', 'j', id)
          save(id, job)
          given = given + 1
        end
      end
    end
    if given > 0 then
      dry[FRONT_LANE] = false
      read(FRONT_LANE, given)
      dry[FRONT_LANE] = true
    end
  end
  if wants_suspect then
    give_entries(RANKS, 1)
  end
  give_entries(0, most)
  -- Within a priority, jobs of models and those that wait for none get a half each; who is first alternates.
  look = function(lane, wanted)
    local goal = math.min(taken + wanted, most)
    local half = math.ceil((goal - taken) / 2)
    if turn % 2 == 0 then
      give_entries(lane, half)
    else
      read(lane, half)
      give_entries(lane, goal - taken)
    end
    read(lane, goal - taken)
    give_entries(lane, goal - taken)
  end
end
for place = turn, turn + most - 1 do
  if place % 10 == 9 then
    low = low + 1
  elseif place % 10 == 3 or place % 10 == 6 then
    normal = normal + 1
  end
end
look(3, low)
look(2, normal)
for lane = 1, 3 do
  -- A second round, for entries that were dropped.
  look(lane, most)
  look(lane, most)
end

local drained = taken < most and looked < 2 * most
if taken > 0 then
  redis.call('HSET', base .. ':claims', worker, table.concat(ids, ' '))
  redis.call('HSET', base .. ':ctl', 'turn', (turn + taken) % 10)
end
for lane = 1, 3 do
  if plain[lane] > 0 then
    count(WAITING[lane], -plain[lane])
  end
end
if plain_bytes > 0 then
  count('bytes', -plain_bytes)
end
if drained and suspects == 0 and rings == 0 then
  redis.call('DEL', base .. ':bell')
end
flush()
return { drained and 0 or 1, jobs, watched_beside(ids, 2) }
