-- discard: drops the audio of an upload whose job was not accepted.
-- ARGV[1] id
-- Returns 1 dropped, 0 there is none, or its job is there
-- Atomic because the same submit, sent again, may be accepted between check and delete.
if redis.call('HEXISTS', RECORD .. ARGV[1], 's') == 1 then
  return 0
end
return redis.call('UNLINK', base .. ':a:' .. ARGV[1])
