-- provider: what all workers must agree on about one provider.
--
-- In these scripts KEYS[1] names a provider: overshot:{provider:<name>}. Its other keys:
--   :circuits  per model, and under '*' for the provider itself, a circuit: the fields below, with spaces between
--   :facts     answered, error, error_at, latency, reported, waking (until), waking_since, loaded
--   :held      jobs in flight per worker   :holders  those workers, by the end of their permits
--   :window    requests and tokens of the last minute by quarters of a second (r<quarter>, t<quarter>), their sums (r, t), the
--              oldest quarter that may be in it, and whether somebody waits for room
--   :turn      of one that runs one model at a time: `model`, which; `free`, since when nobody uses it; `next` and `next_until`,
--              who is promised the turn; `waiting`, whether somebody does; l<model>, when a model had its last turn
--   :users     the workers that have jobs of that model in flight, by the end of their right to
--   :seen      the number of each worker's last report
-- A circuit is open (opened > 0, until in the future), half-open (opened > 0, until over: trials, few of them), or closed.
local CONSECUTIVE, GOOD, BAD, SINCE, OPENED, UNTIL, PAUSED, TRIAL, HOLDER, CODE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
-- Circuits of one provider: callers name models.
local CIRCUITS_MAX = 64
local KEPT_MS = 86400000

local function read_circuit(stored)
  local circuit = {}
  for word in string.gmatch(stored or '0 0 0 0 0 0 0 0 - -', '%S+') do
    circuit[#circuit + 1] = #circuit < TRIAL and tonumber(word) or word
  end
  return circuit
end

local function write_circuit(model, circuit)
  for i = CONSECUTIVE, TRIAL do
    circuit[i] = string.format('%.0f', circuit[i])
  end
  redis.call('HSET', base .. ':circuits', model, table.concat(circuit, ' '))
  redis.call('PEXPIRE', base .. ':circuits', KEPT_MS)
end

-- Tells every worker that something changed. Never sharded: workers listen at one node, whichever it is.
local function tell_workers()
  redis.call('PUBLISH', 'overshot:providers', string.match(base, '^overshot:{provider:(.*)}$'))
end

local QUARTER_MS, QUARTERS = 250, 240
local quarter = math.floor(now / QUARTER_MS)

-- Takes what is older than a minute out of the window.
local function move_window()
  local window = base .. ':window'
  local oldest = tonumber(redis.call('HGET', window, 'oldest') or quarter)
  -- Whole quarters only: what any 60 s hold stays below the limit.
  local first = quarter - QUARTERS
  if oldest > quarter or oldest < first - 2 * QUARTERS then
    -- The clock stepped back, or nobody called for long.
    redis.call('DEL', window)
    oldest = first
  elseif oldest < first then
    local names = {}
    for gone = oldest, first - 1 do
      names[#names + 1] = 'r' .. gone
      names[#names + 1] = 't' .. gone
    end
    local values = redis.call('HMGET', window, unpack(names))
    local requests, tokens = 0, 0
    for i = 1, #values, 2 do
      requests, tokens = requests + (values[i] or 0), tokens + (values[i + 1] or 0)
    end
    redis.call('HDEL', window, unpack(names))
    -- Not `-requests`: Lua writes -0.
    redis.call('HINCRBY', window, 'r', 0 - requests)
    redis.call('HINCRBY', window, 't', 0 - tokens)
    oldest = first
  end
  redis.call('HSET', window, 'oldest', oldest)
  redis.call('PEXPIRE', window, KEPT_MS)
  return oldest
end
