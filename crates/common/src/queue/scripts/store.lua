-- store: keeps one piece of the audio of a job that is yet to be accepted.
-- ARGV[1] id   ARGV[2] number of the piece, from 0   ARGV[3] the piece   ARGV[4] how long it waits for its job, ms
-- Returns 1 kept, 0 its job is there, and has its audio
-- Atomic because a submit that was sent again must put no end to what an accepted job has.
if redis.call('HEXISTS', RECORD .. ARGV[1], 's') == 1 then
  return 0
end
redis.call('HSET', base .. ':a:' .. ARGV[1], ARGV[2], ARGV[3])
redis.call('PEXPIRE', base .. ':a:' .. ARGV[1], ARGV[4])
return 1
