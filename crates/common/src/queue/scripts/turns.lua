-- turns: for whose turn jobs wait, in a pool that drains by model.
-- ARGV[1] label that models share   ARGV[2] most jobs under it that are looked at
-- Returns { label, model, ms for which the one of its jobs that waits longest has been due } per model
-- Atomic because a claim may take the jobs meanwhile.
local found = {}
local function wait_of(label, id, since)
  local job = load(id)
  if not job or job[TICKET] ~= NO_ENTRY then
    return redis.call('ZREM', base .. ':m:' .. label, id)
  end
  local model = cjson.decode(job[SPEC]).m
  local known = found[model]
  if not known then
    known = { label, model, 0 }
    found[model] = known
    found[#found + 1] = known
  end
  known[3] = math.max(known[3], now - since)
end

for _, label in ipairs(redis.call('SMEMBERS', base .. ':turns')) do
  local first, since = first_in_turn(label)
  if not first then
    redis.call('SREM', base .. ':turns', label)
  elseif label == ARGV[1] then
    local all = redis.call('ZRANGE', base .. ':m:' .. label, 0, ARGV[2] - 1, 'WITHSCORES')
    for i = 1, #all, 2 do
      wait_of(label, all[i], all[i + 1] % PER_RANK)
    end
  else
    wait_of(label, first, since)
  end
end
return found
