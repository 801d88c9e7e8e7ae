-- reserve: books an idempotency key for a job id. The key has a slot of its own: KEYS[1] is no shard here.
-- KEYS[1] overshot:idem:{<hash of the key>}
-- ARGV[1] job id   ARGV[2] hash of the body, 16 bytes   ARGV[3] how long it is kept, ms
-- Returns { id, body hash } that the key stands for: the caller's own when it was free.
-- Atomic because two submits with one key may race.
local booked = redis.call('GET', KEYS[1])
if booked then
  return { string.sub(booked, 17), string.sub(booked, 1, 16) }
end
redis.call('SET', KEYS[1], ARGV[2] .. ARGV[1], 'PX', ARGV[3])
return { ARGV[1], ARGV[2] }
