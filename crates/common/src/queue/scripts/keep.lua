-- keep: gives an ended job a result that its holder could not settle any more.
-- ARGV[1] id   ARGV[2] result (JSON), or '' while the parts of a large one are put beside the record   then name, value
-- Returns 1 kept, 0 the job is gone, has not ended, or has a result
-- Atomic because a retry by hand may take the job back between check and write.
local id, name = ARGV[1], base .. ':v:' .. ARGV[1]
local job = load(id)
if not job or job[STATUS] < DONE or job[STATUS] == EXPIRED or redis.call('HEXISTS', RECORD .. id, 'r') == 1 then
  return 0
end
if #ARGV > 2 then
  redis.call('HSET', name, unpack(ARGV, 3))
  -- The pruner deletes it with the record; this is the backstop.
  redis.call('PEXPIRE', name, text(job[RESULT_TTL] + 86400000))
end
if ARGV[2] ~= '' then
  redis.call('HSET', RECORD .. id, 'r', ARGV[2])
end
return 1
