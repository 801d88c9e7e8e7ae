-- leave: a worker that stops in good order takes itself off the lists.
-- ARGV[1] worker
-- Returns 1 gone, 0 it still holds jobs and stays until the reaper has them
-- Atomic because DELCONSUMER drops pending entries silently.
for lane = 1, #LANES do
  local pending = redis.pcall('XPENDING', base .. LANES[lane], 'workers', '-', '+', 1, ARGV[1])
  if not pending.err and #pending > 0 then
    return 0
  end
end
for lane = 1, #LANES do
  redis.pcall('XGROUP', 'DELCONSUMER', base .. LANES[lane], 'workers', ARGV[1])
end
redis.call('ZREM', base .. ':workers', ARGV[1])
redis.call('HDEL', base .. ':info', ARGV[1])
redis.call('HDEL', base .. ':claims', ARGV[1])
redis.call('HDEL', base .. ':suspects', ARGV[1])
return 1
