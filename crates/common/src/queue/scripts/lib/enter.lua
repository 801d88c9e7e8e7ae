-- enter: puts a job where it waits, and takes it out again.

-- Into the index of deadlines that no stream's order tells (see expire.lua).
local function index_deadline(id, job)
  if job[IN_EXP] == 0 then
    job[IN_EXP] = 1
    redis.call('ZADD', base .. ':exp', job[EXPIRES], id)
  end
end

-- Into a stream. The entry is only a ticket: the record names the one that counts.
local function push(id, job)
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
  job[TICKET] = redis.call('XADD', base .. LANES[lane], '*', 'j', id)
  count('w' .. job[PRIORITY], 1)
  count('bytes', job[BYTES])
  if job[STATUS] == RETRYING then
    count('retries', 1)
  end
  -- The order of a priority's stream tells the common deadlines (see expire.lua); all others are indexed.
  if lane >= FRONT_LANE or job[OWN_DEADLINE] == 1 then
    index_deadline(id, job)
  end
  rings = rings + 1
end

-- Takes back the counters of an entry that leaves its stream.
local function unpush(job)
  count('w' .. job[PRIORITY], -1)
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

-- Takes a waiting job out of where it waits.
local function withdraw(id, job)
  if job[TICKET] ~= '' then
    redis.call('XDEL', base .. LANES[job[LANE]], job[TICKET])
    unpush(job)
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
