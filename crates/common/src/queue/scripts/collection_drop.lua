-- collection_drop: forgets a collection.
-- ARGV none
-- Returns 1 forgotten, 0 there was none
-- Atomic because a job may be writing to it: its pass is over then.
local name = KEYS[1]
local meta = redis.call('HMGET', name, 'gen', 'next_gen')
if not meta[1] then
  return 0
end
for _, generation in ipairs({ meta[1], meta[2] or meta[1] }) do
  drop_generation(name, generation)
end
return redis.call('DEL', name)
