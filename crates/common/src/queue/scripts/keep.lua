-- keep: gives an ended job a result that its holder could not settle any more.
-- ARGV[1] id   ARGV[2] result (JSON)
-- Returns 1 kept, 0 the job is gone, has not ended, or has a result
-- Atomic because a retry by hand may take the job back between check and write.
local job = load(ARGV[1])
if not job or job[STATUS] < DONE or job[STATUS] == EXPIRED then
  return 0
end
return redis.call('HSETNX', RECORD .. ARGV[1], 'r', ARGV[2])
