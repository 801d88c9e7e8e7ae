-- limits: which of a submit's jobs are there already; how much waits in the shard, against what it may hold; which stages and
-- services its jobs are of.

-- The names of their records, and whether any of them is there: all are looked for at once, since that is rare.
local records, some_there, accepted = {}, false, {}
local function look_for(first)
  for i = first, #ARGV, 5 do
    records[#records + 1] = RECORD .. ARGV[i]
  end
  some_there = redis.call('EXISTS', unpack(records)) > 0
end

-- The refusal of a job that is there already; `accepted` are those of this call, which may bring the same id twice.
local function known_before(id, name)
  if accepted[id] or some_there and redis.call('EXISTS', name) == 1 then
    return redis.call('HEXISTS', name, 's') == 1 and { 2 } or { 6 }
  end
end

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

-- The labels of a submit's jobs: stages, each `<task><tab><model>`, and services, each a line. Jobs name them by number, from 1.
local stages, services = {}, {}
-- Whoever names more of them is counted as `other`.
local MOST_STAGES, MOST_SERVICES = 64, 32

-- Reads them; tells which counters are theirs.
local function labels(stage_lines, service_lines)
  local fields = {}
  for label in string.gmatch(stage_lines, '[^\n]+') do
    stages[#stages + 1] = label
    fields[#fields + 1] = 'i' .. label
    fields[#fields + 1] = 'a' .. label
  end
  for service in string.gmatch(service_lines, '[^\n]+') do
    services[#services + 1] = service
    fields[#fields + 1] = 'o' .. service
  end
  return fields
end

-- Counts an accepted job in its stage, and tells the number under which the shard knows that; 0 is all that are too many.
local known_as, entered, served = {}, {}, {}
local function enter_stage(stage)
  local number = known_as[stage]
  if not number then
    local label = stages[stage]
    number = loaded['i' .. label]
    if number == 0 then
      number = loaded.stages + (counts.stages or 0) + 1
      if number > MOST_STAGES then
        number = 0
      else
        count('stages', 1)
        count('i' .. label, number)
      end
    end
    known_as[stage], entered[stage] = number, 0
  end
  entered[stage] = entered[stage] + 1
  return number
end

-- The same for the service of its owner, where it has one.
local function enter_service(service)
  if service > 0 then
    served[service] = (served[service] or 0) + 1
  end
end

-- Counts what was entered.
local function store_labels()
  for stage, by in pairs(entered) do
    count(known_as[stage] == 0 and 'aother\tother' or 'a' .. stages[stage], by)
  end
  for service, by in pairs(served) do
    local field = 'o' .. services[service]
    if loaded[field] == 0 then
      if loaded.services + (counts.services or 0) >= MOST_SERVICES then
        field = 'oother'
      else
        count('services', 1)
      end
    end
    count(field, by)
  end
end
