-- pause: stops or resumes claims of a shard.
-- ARGV[1] 1 pause, 0 resume
-- Returns 1
-- Atomic because resume must ring for what waits.
if ARGV[1] == '1' then
  redis.call('HSET', base .. ':ctl', 'paused', 1)
else
  redis.call('HDEL', base .. ':ctl', 'paused')
  rings = 64
  flush()
end
return 1
