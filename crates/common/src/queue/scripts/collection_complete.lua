-- collection_complete: makes a collection what a job's pass has put and confirmed, and nothing else.
-- ARGV[1] epoch   ARGV[2] generation   ARGV[3] pass   ARGV[4] ids of the job   ARGV[5] model, or ''
-- Returns { 1 done, ids removed }; { 0, 0 } the pass is over; { 2, 0 } another pass wrote over this one: confirm again
-- Atomic because a reader must not see ids that are gone beside those that came, nor a half of two jobs.
local name = KEYS[1]
if not pass_holds(name, ARGV[1], ARGV[2]) then
  return { 0, 0 }
end
local data = name .. ':' .. ARGV[2]
if redis.call('ZCOUNT', data .. ':seen', ARGV[3], ARGV[3]) ~= tonumber(ARGV[4]) then
  return { 2, 0 }
end
local removed = 0
for _, range in ipairs({ { '-inf', '(' .. ARGV[3] }, { '(' .. ARGV[3], '+inf' } }) do
  local gone = redis.call('ZRANGEBYSCORE', data .. ':seen', range[1], range[2])
  removed = removed + #gone
  -- Lua passes some 8000 arguments at most.
  for first = 1, #gone, 4000 do
    local last = math.min(first + 3999, #gone)
    redis.call('HDEL', data .. ':keys', unpack(gone, first, last))
    redis.call('HDEL', data .. ':vectors', unpack(gone, first, last))
    redis.call('ZREM', data .. ':ids', unpack(gone, first, last))
    redis.call('ZREM', data .. ':seen', unpack(gone, first, last))
  end
end
local meta = redis.call('HMGET', name, 'gen', 'next_space')
if meta[1] ~= ARGV[2] then
  removed = redis.call('ZCARD', name .. ':' .. meta[1] .. ':ids')
  drop_generation(name, meta[1])
  redis.call('HSET', name, 'gen', ARGV[2], 'space', meta[2])
  redis.call('HDEL', name, 'next_gen', 'next_space')
end
redis.call('HINCRBY', name, 'epoch', 1)
redis.call('HSET', name, 'model', ARGV[5], 'updated', string.format('%.0f', now))
return { 1, removed }
