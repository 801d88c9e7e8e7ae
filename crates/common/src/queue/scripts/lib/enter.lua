-- enter: puts a job where it waits, and takes it out again.

-- Into the index of deadlines that no stream's order tells (see expire.lua).
local function index_deadline(id, job)
  if job[IN_EXP] == 0 then
    job[IN_EXP] = 1
    redis.call('ZADD', base .. ':exp', job[EXPIRES], id)
  end
end

-- A job of a pool that drains by model waits in a set of its label, in order of rank and age, and has no entry before the claim
-- that takes it. Its ticket is an id that no entry has. Ranks: what was handed back, the priorities, suspects.
local AWAITS_TURN, NO_ENTRY = 2, '0-1'
local RANKS, PER_RANK = 4, 10000000000000

-- Who waits first for a turn, and since when the one has been due that waits longest.
local function first_in_turn(label)
  local first, since
  for rank = 0, RANKS do
    local least, last = text(rank * PER_RANK), text((rank + 1) * PER_RANK - 1)
    local head = redis.call('ZRANGEBYSCORE', base .. ':m:' .. label, least, last, 'WITHSCORES', 'LIMIT', 0, 1)
    if head[1] then
      local due = head[2] - rank * PER_RANK
      first, since = first or head[1], math.min(since or due, due)
    end
  end
  return first, since
end

-- Into a stream, or where it waits for its model's turn. An entry is only a ticket: the record names the one that counts.
local function push(id, job, has_turn)
  local lane = job[PRIORITY]
  -- One crash may be a neighbour's fault: it runs on at once, beside others. From the second on, or where the next one ends it,
  -- it runs alone, so that a crash tells who did it.
  if job[CRASHES] > 1 or (job[CRASHES] > 0 and job[CRASHES] >= job[MAX_CRASHES]) then
    lane = SUSPECT_LANE
    redis.call('HINCRBY', base .. ':ctl', 'suspects', 1)
  elseif job[FRONT] == 1 then
    lane = FRONT_LANE
  end
  job[LANE] = lane
  if job[OWN_DEADLINE] == AWAITS_TURN and not has_turn then
    local label = cjson.decode(job[SPEC]).l
    local rank = lane == SUSPECT_LANE and RANKS or lane == FRONT_LANE and 0 or lane
    redis.call('ZADD', base .. ':m:' .. label, string.format('%.0f', rank * PER_RANK + job[RUN_AT]), id)
    redis.call('SADD', base .. ':turns', label)
    job[TICKET] = NO_ENTRY
  else
    job[TICKET] = redis.call('XADD', base .. LANES[lane], '*', 'j', id)
  end
  count(WAITING[job[PRIORITY]], 1)
  count('bytes', job[BYTES])
  if job[STATUS] == RETRYING then
    count('retries', 1)
  end
  -- The order of a priority's stream tells the common deadlines (see expire.lua); all others are indexed.
  if lane >= FRONT_LANE or job[OWN_DEADLINE] > 0 then
    index_deadline(id, job)
  end
  rings = rings + 1
end

-- Takes back the counters of an entry that leaves its stream.
local function unpush(job)
  count(WAITING[job[PRIORITY]], -1)
  count('bytes', -job[BYTES])
  if job[STATUS] == RETRYING then
    count('retries', -1)
  end
  if job[LANE] == SUSPECT_LANE then
    redis.call('HINCRBY', base .. ':ctl', 'suspects', -1)
  end
end

-- Into the due set; status is SCHEDULED or RETRYING.
local function schedule(id, job, status, due)
  count('bytes', job[BYTES])
  job[STATUS], job[RUN_AT], job[TICKET] = status, due, ''
  count(status == RETRYING and 'retrying' or 'scheduled', 1)
  redis.call('ZADD', base .. ':due', due, id)
end

-- The live holder of a concurrency key, or nil. A holder whose record is gone or over is none.
local function holder_of(key)
  local holder = redis.call('GET', base .. ':k:' .. key)
  local job = holder and load(holder)
  if job and job[STATUS] < DONE and job[KEY] == key then
    return holder, job
  end
end

-- Behind the holder of its key.
local function block(id, job)
  job[STATUS], job[TICKET] = BLOCKED, ''
  count('blocked', 1)
  count('bytes', job[BYTES])
  redis.call('ZADD', base .. ':kw:' .. job[KEY], job[CREATED], id)
  index_deadline(id, job)
end

-- The set of those that wait for the same turn as a job without an entry.
local function turn_set(job)
  return base .. ':m:' .. cjson.decode(job[SPEC]).l
end

-- Takes back the ticket of a waiting job.
local function pull(id, job)
  if job[TICKET] == NO_ENTRY then
    redis.call('ZREM', turn_set(job), id)
  else
    redis.call('XDEL', base .. LANES[job[LANE]], job[TICKET])
  end
  unpush(job)
end

-- Takes a waiting job out of where it waits.
local function withdraw(id, job)
  if job[TICKET] ~= '' then
    pull(id, job)
  elseif job[STATUS] == BLOCKED then
    redis.call('ZREM', base .. ':kw:' .. job[KEY], id)
    count('blocked', -1)
    count('bytes', -job[BYTES])
  else
    redis.call('ZREM', base .. ':due', id)
    count('bytes', -job[BYTES])
  end
  if job[STATUS] == RETRYING then
    count('retrying', -1)
  elseif job[STATUS] == SCHEDULED then
    count('scheduled', -1)
  end
end
