-- tallies: what the shard accepted and what ended in it, by stage and service.
-- ARGV none
-- Returns { counters (flat pairs), total (flat pairs), hours not in it (each flat pairs, this one last), ms into this hour }: see enqueue.lua and lib/end.lua
-- Atomic because a fold moves counts from one to the other.
local hours = {}
local this_hour = math.floor(now / 3600000)
local folded = tonumber(redis.call('HGET', base .. ':ctl', 'folded') or this_hour - 24)
-- A day, and what is not folded yet.
for hour = math.max(math.min(folded, this_hour - 24), this_hour - 100, 0), this_hour do
  hours[#hours + 1] = redis.call('HGETALL', base .. ':h:' .. hour)
end
return { redis.call('HGETALL', base .. ':n'), redis.call('HGETALL', base .. ':total'), hours, now % 3600000 }
