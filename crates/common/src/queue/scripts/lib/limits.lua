-- limits: how much waits in the shard, against what it may hold; which stages and services its jobs are of.

-- The counters that a submit reads, each two places behind its value in `held`, and what is to be added to them. Within a script
-- nobody else changes them, so that they are written as one.
local counters = {
  'HMGET', base .. ':n', 'w1', 'w2', 'w3', 'scheduled', 'blocked', 'retrying', 'retries', 'bytes', 'stages', 'services',
}
local BYTES_AT, STAGES_AT, SERVICES_AT = 10, 11, 12
local held, added, services_from = {}, {}, 0
-- Whoever names more of them is counted as `other`.
local MOST_STAGES, MOST_SERVICES = 64, 32

-- Reads the counters, also those of the labels of a submit's jobs: stages, each `<task><tab><model>`, and services, each a line.
-- Jobs name them by number, from 1. Tells how many jobs wait, and how many bytes of input.
local function read_counters(stages, services)
  local last = SERVICES_AT
  for label in string.gmatch(stages, '[^\n]+') do
    counters[last + 1], counters[last + 2] = 'i' .. label, 'a' .. label
    last = last + 2
  end
  services_from = last
  for service in string.gmatch(services, '[^\n]+') do
    last = last + 1
    counters[last] = 'o' .. service
  end
  held = redis.call(unpack(counters))
  local waiting = (held[1] or 0) + (held[2] or 0) + (held[3] or 0) + (held[4] or 0) + (held[5] or 0) + (held[6] or 0)
  -- A retry that is back in its stream counts in both.
  return waiting - (held[7] or 0), (held[8] or 0) + 0
end

local function add_to(at, by)
  added[at] = (added[at] or 0) + by
end

-- Counts an accepted job in its stage, and tells the number under which the shard knows that; 0 is all that are too many.
local numbers = {}
local function enter_stage(stage)
  local at = SERVICES_AT - 1 + 2 * stage
  local number = numbers[stage] or tonumber(held[at - 2])
  if not number then
    number = (held[STAGES_AT - 2] or 0) + (added[STAGES_AT] or 0) + 1
    if number > MOST_STAGES then
      number = 0
    else
      add_to(STAGES_AT, 1)
      added[at] = number
    end
  end
  numbers[stage] = number
  if number == 0 then
    count('aother\tother', 1)
  else
    add_to(at + 1, 1)
  end
  return number
end

-- The same for the service of its owner, where it has one.
local function enter_service(service)
  local at = services_from + service
  if not held[at - 2] and not added[at] then
    if (held[SERVICES_AT - 2] or 0) + (added[SERVICES_AT] or 0) >= MOST_SERVICES then
      return count('oother', 1)
    end
    add_to(SERVICES_AT, 1)
  end
  add_to(at, 1)
end

-- Writes the counters that were read, and those that were not.
local function write_counters()
  local set, last = { 'HSET', base .. ':n' }, 2
  for at, field in ipairs(counters) do
    local by = (added[at] or 0) + (counts[field] or 0)
    if by ~= 0 then
      counts[field] = nil
      set[last + 1], set[last + 2] = field, string.format('%d', (held[at - 2] or 0) + by)
      last = last + 2
    end
  end
  if last > 2 then
    redis.call(unpack(set))
  end
  write_counts()
end
