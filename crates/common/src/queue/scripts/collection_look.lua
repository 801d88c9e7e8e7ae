-- collection_look: vectors of a collection that are still made of the text that they are wanted for.
-- ARGV id, key, and so on
-- Returns one vector per id, or nil where there is none or one of another text
-- Atomic because an id and its key must belong together.
local name, vectors = KEYS[1], {}
local generation = redis.call('HGET', name, 'gen')
for i = 1, #ARGV, 2 do
  local data = name .. ':' .. (generation or '')
  local known = redis.call('HGET', data .. ':keys', ARGV[i]) == ARGV[i + 1]
  vectors[(i + 1) / 2] = known and redis.call('HGET', data .. ':vectors', ARGV[i])
end
return vectors
