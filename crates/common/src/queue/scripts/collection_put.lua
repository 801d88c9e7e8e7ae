-- collection_put: writes vectors into a collection, or confirms those that are there.
-- ARGV[1] epoch   ARGV[2] generation   ARGV[3] pass   then id, key, vector ('' confirms)
-- Returns { 1 done, places of those to confirm that are not there }; { 0, {} } the pass is over; { 2, {} } another length
-- Atomic because a job that completes in between must not be written over by one that began before it.
local name = KEYS[1]
if not pass_holds(name, ARGV[1], ARGV[2]) then
  return { 0, {} }
end
local data = name .. ':' .. ARGV[2]
local missing, length = {}, nil
for i = 4, #ARGV, 3 do
  local size = #ARGV[i + 2]
  length = length or (size > 0 and size) or nil
  if size > 0 and size ~= length then
    return { 2, {} }
  end
end
if length then
  redis.call('HSETNX', name, 'length' .. ARGV[2], length)
  if tonumber(redis.call('HGET', name, 'length' .. ARGV[2])) ~= length then
    return { 2, {} }
  end
end
for i = 4, #ARGV, 3 do
  local id, key, vector = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if vector ~= '' then
    redis.call('HSET', data .. ':keys', id, key)
    redis.call('HSET', data .. ':vectors', id, vector)
    redis.call('ZADD', data .. ':ids', 0, id)
    redis.call('ZADD', data .. ':seen', ARGV[3], id)
  elseif redis.call('HGET', data .. ':keys', id) == key then
    redis.call('ZADD', data .. ':seen', ARGV[3], id)
  else
    missing[#missing + 1] = (i - 4) / 3
  end
end
return { 1, missing }
