-- record: the layout of a shard's keys and of a job's record; loading, saving, counting.
--
-- KEYS[1] names the shard: overshot:{<pool>.<number>}. Every other key of the shard is derived from it.
--   :j:<id>    record (hash): s state (packed, below), m spec, i input (I where large), r result, e error, d metadata, p progress,
--              v provider of the last attempt
--   :c:<id>    chunks (stream), ids <grant number>-<seq>
--   :q:<lane>  tickets (streams, group `workers`): suspect, front, high, normal, low
--   :due       scheduled and retrying by due time   :exp     waiting jobs whose deadline no stream order tells
--   :leases    running by lease end                 :cancels running with a cancel request, by the end of patience
--   :open :completed :failed :cancelled :expired    listing, by id      :t:<tag>  listing by owner or key, by id
--   :keep      ended jobs by end of retention       :k:<key> :kw:<key>  holder of a concurrency key, and who waits
--   :workers   last beat   :info  what each worker says of itself   :claims  last claim of each worker
--   :suspects  the one suspect that a worker holds  :ctl  pause, turn, watermark, cursors   :n  counters   :bell  doorbell
local base = KEYS[1]
-- The state is a packed struct: times are Unix ms in 6 bytes, durations ms; 0 and the empty text mean "none".
local FIELDS, FORMAT = 34, '>BBBBBBBBBI4HHHHI6I6I6I6I6I6I6I6I6I6I6I6I6I6I4sssss'
local STATUS, LANE, PRIORITY, PHASE, CONFLICT, OWN_DEADLINE, IN_EXP, FRONT, CHUNKED = 1, 2, 3, 4, 5, 6, 7, 8, 9
local ATTEMPTS, FAILURES, CRASHES, MAX_ATTEMPTS, MAX_CRASHES = 10, 11, 12, 13, 14
local CREATED, UPDATED, RUN_AT, STARTED, RENEWED, FIRST_CHUNK = 15, 16, 17, 18, 19, 20
local CANCEL_AT, COMPLETED, EXPIRES, RESULT_EXPIRES, IDEMPOTENT_UNTIL = 21, 22, 23, 24, 25
local TIMEOUT, QUEUE_TIMEOUT, RESULT_TTL, BYTES = 26, 27, 28, 29
local TICKET, GRANT, WORKER, KEY, TAGS = 30, 31, 32, 33, 34

local QUEUED, SCHEDULED, BLOCKED, RUNNING, RETRYING = 1, 2, 3, 4, 5
local DONE, FAILED, CANCELLED, EXPIRED = 6, 7, 8, 9
local ENDED = { [DONE] = ':completed', [FAILED] = ':failed', [CANCELLED] = ':cancelled', [EXPIRED] = ':expired' }
local LANES = { ':q:high', ':q:normal', ':q:low', ':q:front', ':q:suspect' }
local FRONT_LANE, SUSPECT_LANE = 4, 5

local RECORD = base .. ':j:'
local now_text = string.format('%.0f', now)

local function pack(job)
  return struct.pack(FORMAT, unpack(job, 1, FIELDS))
end

local function parse(packed)
  return { struct.unpack(FORMAT, packed) }
end

local function load(id)
  local packed = redis.call('HGET', RECORD .. id, 's')
  return packed and parse(packed)
end

local function save(id, job)
  job[UPDATED] = now
  redis.call('HSET', RECORD .. id, 's', pack(job))
end

-- A number of ms as text, made once: Redis would format a number anew, and slowly, at every call.
local texts = { [now] = now_text }
local function text(ms)
  local known = texts[ms]
  if not known then
    known = string.format('%.0f', ms)
    texts[ms] = known
  end
  return known
end

-- Commands of the same kind on the same key are sent once, by flush(): what is deferred is not read again before.
local deferred = {}
local function defer(command, key, first, second)
  local of_key = deferred[key]
  if not of_key then
    of_key = {}
    deferred[key] = of_key
  end
  local batch = of_key[command]
  if not batch then
    batch = command == 'XACK' and { command, base .. key, 'workers' } or { command, base .. key }
    of_key[command] = batch
  end
  batch[#batch + 1] = first
  if second then
    batch[#batch + 1] = second
  end
  -- Lua passes some 8000 arguments at most, and one `replace` may end more jobs than that.
  if #batch > 4000 then
    redis.call(unpack(batch))
    of_key[command] = nil
  end
end

local counts = {}
local function count(field, by)
  counts[field] = (counts[field] or 0) + by
end

local rings = 0
-- Sends what was deferred, writes the counters and rings the doorbell once per job that was queued, up to its cap.
local function flush()
  for _, of_key in pairs(deferred) do
    for _, batch in pairs(of_key) do
      redis.call(unpack(batch))
    end
  end
  deferred = {}
  for field, by in pairs(counts) do
    if by ~= 0 then
      redis.call('HINCRBY', base .. ':n', field, by)
    end
  end
  counts = {}
  if rings > 0 then
    local free = math.min(rings, 64 - redis.call('LLEN', base .. ':bell'))
    if free > 0 then
      local bell = {}
      for i = 1, free do
        bell[i] = '1'
      end
      redis.call('RPUSH', base .. ':bell', unpack(bell))
    end
    rings = 0
  end
end

-- Of the ids given, those whose channel has a subscriber: their callers publish what became of them.
local id_prefix = 'job_' .. string.gsub(string.match(base, '{(.+)}'), '%.', '-') .. '-'
local CHANNEL = base .. ':events:' .. id_prefix
local function channel(id)
  return CHANNEL .. id
end
local function watched(ids)
  local seen = {}
  for first = 1, #ids, 1000 do
    local channels = {}
    for i = first, math.min(first + 999, #ids) do
      channels[#channels + 1] = CHANNEL .. ids[i]
    end
    local subscribers = redis.call('PUBSUB', 'NUMSUB', unpack(channels))
    for i = 1, #channels do
      if subscribers[2 * i] > 0 then
        seen[#seen + 1] = ids[first + i - 1]
      end
    end
  end
  return seen
end
