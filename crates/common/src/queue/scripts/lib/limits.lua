-- limits: how much waits in the shard, against what it may hold; which stages its jobs are of.

-- The counters that were read, by field. Within a script nobody else changes them, so that they are written as one.
local loaded = {}

local function load_counts(fields)
  local values = redis.call('HMGET', base .. ':n', unpack(fields))
  for i, field in ipairs(fields) do
    loaded[field] = tonumber(values[i] or 0)
  end
end

-- Writes the counters that were read; flush() has the rest.
local function store_counts()
  local pairs_now = { 'HSET', base .. ':n' }
  for field, by in pairs(counts) do
    if loaded[field] then
      pairs_now[#pairs_now + 1] = field
      pairs_now[#pairs_now + 1] = text(loaded[field] + by)
      counts[field] = nil
    end
  end
  if #pairs_now > 2 then
    redis.call(unpack(pairs_now))
  end
end

-- How many jobs wait, and how many bytes of input; reads `more` counters with it.
local function waiting_now(more)
  local fields = { 'w1', 'w2', 'w3', 'scheduled', 'blocked', 'retrying', 'retries', 'bytes', 'stages', 'services' }
  for _, field in ipairs(more) do
    fields[#fields + 1] = field
  end
  load_counts(fields)
  local waiting = loaded.w1 + loaded.w2 + loaded.w3 + loaded.scheduled + loaded.blocked + loaded.retrying
  -- A retry that is back in its stream counts in both.
  return waiting - loaded.retries, loaded.bytes
end
