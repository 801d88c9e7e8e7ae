-- stats: a shard in numbers, none of them counted one by one.
-- ARGV[1] liveness, ms
-- Returns { paused, live workers, running, not yet due, due, counters as listed below, completed, failed, cancelled, expired, oldest queued since (ms), leases that are over }
-- Atomic because the numbers must fit together.
local names = { 'w1', 'w2', 'w3', 'scheduled', 'blocked', 'retrying', 'retries', 'bytes' }
local counters = redis.call('HMGET', base .. ':n', unpack(names))
local oldest = 0
for lane = 1, #LANES do
  local groups = redis.pcall('XINFO', 'GROUPS', base .. LANES[lane])
  local delivered = '-'
  for _, group in ipairs(groups.err and {} or groups) do
    for i = 1, #group, 2 do
      if group[i] == 'last-delivered-id' then
        delivered = '(' .. group[i + 1]
      end
    end
  end
  local head = redis.call('XRANGE', base .. LANES[lane], delivered, '+', 'COUNT', 1)[1]
  local job = head and load(head[2][2])
  local since = job and job[RUN_AT] or 0
  if since > 0 and (oldest == 0 or since < oldest) then
    oldest = since
  end
end
for _, label in ipairs(redis.call('SMEMBERS', base .. ':turns')) do
  local _, since = first_in_turn(label)
  if since and (oldest == 0 or since < oldest) then
    oldest = since
  end
end
return {
  redis.call('HEXISTS', base .. ':ctl', 'paused'),
  redis.call('ZCOUNT', base .. ':workers', now - tonumber(ARGV[1]), '+inf'),
  redis.call('ZCARD', base .. ':leases'),
  redis.call('ZCOUNT', base .. ':due', string.format('(%.0f', now), '+inf'),
  redis.call('ZCOUNT', base .. ':due', '-inf', now),
  counters,
  redis.call('ZCARD', base .. ':completed'),
  redis.call('ZCARD', base .. ':failed'),
  redis.call('ZCARD', base .. ':cancelled'),
  redis.call('ZCARD', base .. ':expired'),
  oldest == 0 and 0 or math.max(1, now - oldest),
  redis.call('ZCOUNT', base .. ':leases', '-inf', now),
}
