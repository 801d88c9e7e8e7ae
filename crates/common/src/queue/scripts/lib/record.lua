-- record: the layout of a shard's keys and of a job's record; loading, saving, counting.
--
-- KEYS[1] names the shard: overshot:{<pool>.<number>}. Every other key of the shard is derived from it. Itself it never exists:
-- so a cluster refuses every script (ASK) from the moment on at which the slot begins to move, and none meets half of its keys.
--   :j:<id>    record (hash): s state (packed, below), f facts (packed, below) with a small input behind them, i input (I where
--              large) that is not, r result, e error, d metadata, p progress, n nonce of the last retry by hand
--   :c:<id>    chunks (stream), ids <grant number>-<seq>
--   :v:<id>    what a running job left beside its record (hash): vectors by key, parts of a result that is not in `r`
--   :a:<id>    audio of an upload (hash): pieces by number, all but the last of the same size
--   :q:<lane>  tickets (streams, group `workers`): suspect, front, high, normal, low
--   :m:<label> jobs that wait for their model's turn, in a pool that drains by model (sorted set)   :turns  those labels
--   :due       scheduled and retrying by due time   :exp     waiting jobs whose deadline no stream order tells
--   :leases    running by lease end                 :cancels running with a cancel request, by the end of patience
--   :open :completed :failed :cancelled :expired    listing, by id      :t<what>:<text>  the same of those that name it
--   :keep:<s>  ended jobs whose retention ends in that second (list)   :keeps  those seconds
--   :k:<key> :kw:<key>  holder of a concurrency key, and who waits
--   :workers   last beat   :info  what each worker says of itself   :claims  last claim of each worker
--   :h:<hour>  what ended in that hour and how often: <stage byte><outcome>      :total  the same of all hours older than a day
--   :suspects  the one suspect that a worker holds  :ctl  pause, turn, watermark, cursors   :n  counters   :bell  doorbell
local base = KEYS[1]
-- The state is a packed struct, written at every move: times are Unix ms in 6 bytes, durations ms in 5; 0 and the empty text
-- mean "none".
local STATE, STATE_FIELDS = '>BBBBBBBBI4HHI6I6I5I4I6I6I6I6I6I6I6Bssss', 27
local STATUS, LANE, PRIORITY, PHASE, IN_EXP, FRONT, CHUNKED, KEYED = 1, 2, 3, 4, 5, 6, 7, 8
local ATTEMPTS, FAILURES, CRASHES, RUN_AT, EXPIRES, RESULT_TTL, BYTES = 9, 10, 11, 12, 13, 14, 15
local CREATED, UPDATED, STARTED, RENEWED, FIRST_CHUNK, CANCEL_AT, COMPLETED = 16, 17, 18, 19, 20, 21, 22
local STAGE, TICKET, GRANT, WORKER, PROVIDER = 23, 24, 25, 26, 27
-- The facts are what the submit fixed, written by the client; they follow the state in a job's table.
local FACTS, ALL_FIELDS = '>BBHHI5I5I5sssss', 39
local CONFLICT, OWN_DEADLINE, MAX_ATTEMPTS, MAX_CRASHES, TIMEOUT, QUEUE_TIMEOUT, IDEMPOTENT_FOR = 28, 29, 30, 31, 32, 33, 34
local KEY, SERVICE, REFERENCE, AGENT, SPEC = 35, 36, 37, 38, 39
-- Inputs up to this many bytes stand behind the facts; those over LARGE are read by the attempt that needs them.
local INLINE, LARGE = 1024, 65536

local QUEUED, SCHEDULED, BLOCKED, RUNNING, RETRYING = 1, 2, 3, 4, 5
local DONE, FAILED, CANCELLED, EXPIRED = 6, 7, 8, 9
local ENDED = { [DONE] = ':completed', [FAILED] = ':failed', [CANCELLED] = ':cancelled', [EXPIRED] = ':expired' }
local LANES = { ':q:high', ':q:normal', ':q:low', ':q:front', ':q:suspect' }
local FRONT_LANE, SUSPECT_LANE = 4, 5
-- The counters of what waits, by priority.
local WAITING = { 'w1', 'w2', 'w3' }

local RECORD = base .. ':j:'

-- Where the bytes of a state stand, for the moves that every job makes: they put the new state together from parts of the old one,
-- at half the price of reading and writing every field.
local AT_CRASHES, AT_EXPIRES, AT_RESULT_TTL, AT_UPDATED, AT_STARTED, AT_CANCEL, AT_COMPLETED, AT_STAGE, AT_TEXTS = 15, 23, 29, 44, 50, 68, 74, 80, 81
local NO_TIME = '\0\0\0\0\0\0'
local now_packed = struct.pack('>I6', now)

local function pack(job)
  return struct.pack(STATE, unpack(job, 1, STATE_FIELDS))
end

local function parse(state)
  return { struct.unpack(STATE, state) }
end

local function add_facts(job, facts)
  job[CONFLICT], job[OWN_DEADLINE], job[MAX_ATTEMPTS], job[MAX_CRASHES], job[TIMEOUT], job[QUEUE_TIMEOUT], job[IDEMPOTENT_FOR],
    job[KEY], job[SERVICE], job[REFERENCE], job[AGENT], job[SPEC] = struct.unpack(FACTS, facts)
  return job
end

-- The listings of a job by what its submit named: `Named` of keys.rs.
local function listings(job)
  local names = {}
  for place, letter in ipairs({ 'k', 's', 'r', 'a' }) do
    local text = job[KEY + place - 1]
    if text ~= '' then
      names[#names + 1] = ':t' .. letter .. ':' .. text
    end
  end
  return names
end

-- The state alone: enough for the moves that every job makes. KEYED tells whether it has a concurrency key.
local function load_state(id)
  local state = redis.call('HGET', RECORD .. id, 's')
  return state and parse(state)
end

local function load_facts(id, job)
  return add_facts(job, redis.call('HGET', RECORD .. id, 'f'))
end

local function load(id)
  local job = load_state(id)
  return job and load_facts(id, job)
end

local function save(id, job)
  job[UPDATED] = now
  redis.call('HSET', RECORD .. id, 's', pack(job))
end

-- A number of ms as text, made once: Redis would format a number anew, and slowly, at every call.
local texts = {}
local function text(ms)
  local known = texts[ms]
  if not known then
    known = string.format('%d', ms)
    texts[ms] = known
  end
  return known
end

-- Draws near what lies further ahead than anything written now could: after the clock stepped back it would stand there until the
-- clock is where it was. Of `most` at a time; tells whether there may be more.
local function draw_near(set, latest, most)
  local ahead = redis.call('ZRANGEBYSCORE', base .. set, '(' .. text(latest), '+inf', 'LIMIT', 0, most)
  for _, member in ipairs(ahead) do
    redis.call('ZADD', base .. set, text(latest), member)
  end
  return #ahead == most
end

-- Commands of the same kind on the same key are sent once, by flush(): what is deferred is not read again before. A batch is
-- the command with its arguments; `n` counts them, since `#` would search for the end each time.
local batches = {}
local function batch_of(command, key)
  local batch = { command, base .. key, n = 2, start = 2 }
  if command == 'XACK' then
    batch[3], batch.n, batch.start = 'workers', 3, 3
  end
  batches[#batches + 1] = batch
  return batch
end

local function send(batch)
  if batch.n > batch.start then
    redis.call(unpack(batch, 1, batch.n))
    batch.n = batch.start
  end
end

local function add(batch, first, second)
  local n = batch.n + 1
  batch[n] = first
  if second then
    n = n + 1
    batch[n] = second
  end
  batch.n = n
  -- Lua passes some 8000 arguments at most, and one `replace` may end more jobs than that.
  if n > 4000 then
    send(batch)
  end
end

local by_key = {}
local function defer(command, key, first, second)
  local of_key = by_key[key]
  if not of_key then
    of_key = {}
    by_key[key] = of_key
  end
  local batch = of_key[command]
  if not batch then
    batch = batch_of(command, key)
    of_key[command] = batch
  end
  add(batch, first, second)
end

local counts = {}
local function count(field, by)
  counts[field] = (counts[field] or 0) + by
end

local function write_counts()
  for field, by in pairs(counts) do
    if by ~= 0 then
      redis.call('HINCRBY', base .. ':n', field, string.format('%d', by))
    end
  end
  counts = {}
end

-- Rings the doorbell, up to its cap.
local function ring(rings)
  local free = math.min(rings, 64 - redis.call('LLEN', base .. ':bell'))
  if free == 1 then
    redis.call('RPUSH', base .. ':bell', '1')
  elseif free > 1 then
    local bell = {}
    for i = 1, free do
      bell[i] = '1'
    end
    redis.call('RPUSH', base .. ':bell', unpack(bell))
  end
end

local rings = 0
-- Sends what was deferred, writes the counters and rings once per job that was queued.
local function flush()
  for _, batch in ipairs(batches) do
    send(batch)
  end
  write_counts()
  if rings > 0 then
    ring(rings)
    rings = 0
  end
end

-- Of the ids given, those whose channel has a subscriber: their callers publish what became of them. Of many ids all are
-- returned, behind a '?': the caller asks, since every name and number that passes through Lua costs more than the question.
local prefix
local function id_prefix()
  prefix = prefix or 'job_' .. string.gsub(string.match(base, '{(.+)}'), '%.', '-') .. '-'
  return prefix
end
local function channel(id)
  return base .. ':events:' .. id_prefix() .. id
end
local function watched(ids)
  local seen = {}
  if #ids == 0 then
    return seen
  elseif #ids > 4 then
    return { '?', unpack(ids) }
  end
  local channels = {}
  for i, id in ipairs(ids) do
    channels[i] = channel(id)
  end
  local subscribers = redis.call('PUBSUB', NUMSUB, unpack(channels))
  for i, id in ipairs(ids) do
    if subscribers[2 * i] > 0 then
      seen[#seen + 1] = id
    end
  end
  return seen
end
