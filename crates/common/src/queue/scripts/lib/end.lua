-- end: every move into a terminal status runs finish().

local touched = {}
-- As `watched` of what was touched and of `ids` from `first` on. Of many ids, these are not sent back: the caller has them.
local function watched_beside(ids, first)
  if #touched + #ids - first >= 4 then
    return { '?', unpack(touched) }
  end
  for i = first, #ids do
    touched[#touched + 1] = ids[i]
  end
  return watched(touched)
end

local kept = {}

-- Counts an outcome of a stage in the current hour; one command per call and outcome, however many jobs.
local tallies = {}
local function tally(field, by)
  local batch = tallies[field]
  if not batch then
    batch = batch_of('HINCRBY', ':h:' .. math.floor(now / 3600000))
    batch[3], batch[4], batch.n = field, 0, 4
    tallies[field] = batch
  end
  batch[4] = batch[4] + (by or 1)
end

-- The code in an error's JSON, or ''.
local function code_of(err)
  return string.match(err, '"code":"([%w_]+)"') or ''
end

-- How a stage's outcomes are written: completed, failed with a code, cancelled, expired; `r` with a code is a retry,
-- `b` one that had ended and runs again.
local OUTCOMES = { [DONE] = 'c', [FAILED] = 'f', [CANCELLED] = 'x', [EXPIRED] = 'e' }

-- Takes a delivered entry off its stream.
local function drop(lane, entry)
  defer('XACK', LANES[lane], entry)
  defer('XDEL', LANES[lane], entry)
end

-- Hands a freed concurrency key to the next live waiter.
local function release(id, job)
  local name = base .. ':k:' .. job[KEY]
  if redis.call('GET', name) ~= id then
    return
  end
  redis.call('DEL', name)
  while true do
    local waiter = redis.call('ZPOPMIN', base .. ':kw:' .. job[KEY])[1]
    if not waiter then
      return
    end
    local next_job = load(waiter)
    if next_job and next_job[STATUS] == BLOCKED then
      redis.call('SET', name, waiter)
      count('blocked', -1)
      count('bytes', -next_job[BYTES])
      next_job[STATUS] = QUEUED
      push(waiter, next_job)
      save(waiter, next_job)
      touched[#touched + 1] = waiter
      return
    end
  end
end

-- Into the list of the second in which its retention ends.
local function keep(id, ttl)
  local list = kept[ttl]
  if not list then
    local second = text(math.floor((now + ttl) / 1000) + 1)
    redis.call('ZADD', base .. ':keeps', second, second)
    list = batch_of('RPUSH', ':keep:' .. second)
    kept[ttl] = list
  end
  add(list, id)
end

-- Sets the end of an ended job's retention. The pruner deletes then; Redis itself, as the backstop, a day later.
local function retain(id, name, ttl)
  redis.call('PEXPIRE', name, text(ttl + 86400000))
  keep(id, ttl)
end

-- Ends a job that is out of its waiting place and holds no lease. `err` and `result` are JSON, or '' for none;
-- `provider` is who ran the attempt that ends it, nil where none did.
local function finish(id, job, status, err, result, provider)
  local name = RECORD .. id
  job[STATUS], job[TICKET], job[PHASE] = status, '', 0
  job[COMPLETED], job[UPDATED], job[PROVIDER] = now, now, provider or job[PROVIDER]
  if job[IN_EXP] == 1 then
    job[IN_EXP] = 0
    redis.call('ZREM', base .. ':exp', id)
  end
  if err == '' then
    redis.call('HSET', name, 's', pack(job), 'r', result)
  elseif result == '' then
    -- What an earlier attempt left stays.
    redis.call('HSET', name, 's', pack(job), 'e', err)
  else
    redis.call('HSET', name, 's', pack(job), 'e', err, 'r', result)
  end
  retain(id, name, job[RESULT_TTL])
  defer('ZREM', ':open', id)
  defer('ZADD', ENDED[status], '0', id)
  touched[#touched + 1] = id
  tally(string.char(job[STAGE]) .. OUTCOMES[status] .. (status == FAILED and code_of(err) or ''))
  if job[CHUNKED] == 1 then
    redis.call('PEXPIRE', base .. ':c:' .. id, job[RESULT_TTL])
  end
  if job[CANCEL_AT] > 0 then
    defer('ZREM', ':cancels', id)
  end
  if job[KEYED] == 1 then
    release(id, job)
  end
end

-- Takes a running job out of its holder's hands: no lease, no entry. The grant stays, so that a repeated call is answered the same.
local function revoke(id, job)
  defer('ZREM', ':leases', id)
  drop(job[LANE], job[TICKET])
  job[TICKET], job[PHASE] = '', 0
  if job[CRASHES] > 0 and redis.call('HGET', base .. ':suspects', job[WORKER]) == id then
    redis.call('HDEL', base .. ':suspects', job[WORKER])
    -- Its worker may take the next one now, and nobody rang for that.
    if tonumber(redis.call('HGET', base .. ':ctl', 'suspects') or 0) > 0 then
      rings = rings + 1
    end
  end
end

-- Takes a running job back as if its attempt had not begun. Tells whether it goes on: one that was to be cancelled ends instead.
local function take_back(id, job)
  revoke(id, job)
  job[ATTEMPTS] = job[ATTEMPTS] - 1
  if job[ATTEMPTS] == 0 then
    -- Nobody ran it, then. Else the last name stands.
    job[PROVIDER] = ''
  end
  if job[CANCEL_AT] > 0 then
    finish(id, job, CANCELLED, '{"code":"cancelled","message":"cancelled while it ran"}', '')
    return false
  end
  return true
end
