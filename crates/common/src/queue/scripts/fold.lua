-- fold: adds hours that are older than a day to the total.
-- ARGV[1] most hours per call
-- Returns how many hours there are still to fold
-- Atomic because all processes fold at once, and an hour must be added once.
local this_hour = math.floor(now / 3600000)
local oldest_kept = this_hour - 24
local folded = tonumber(redis.call('HGET', base .. ':ctl', 'folded') or math.max(oldest_kept, 0))
local last = math.min(oldest_kept, folded + tonumber(ARGV[1]))
for hour = folded, last - 1 do
  local key = base .. ':h:' .. hour
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    redis.call('HINCRBY', base .. ':total', fields[i], fields[i + 1])
  end
  redis.call('DEL', key)
end
redis.call('HSET', base .. ':ctl', 'folded', math.max(last, folded))
return math.max(oldest_kept - last, 0)
