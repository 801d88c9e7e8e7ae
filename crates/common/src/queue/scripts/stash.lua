-- stash: keeps beside a running job's record what later attempts go on from, and what a large result is made of.
-- ARGV[1] id   ARGV[2] grant   ARGV[3] progress (JSON or '')   then name, value ('' drops what stands under the name)
-- Returns { 1 kept or 3 the grant does not hold, watched ids }
-- Atomic because a worker that lost its grant must not change what the next one goes on from.
local id, name = ARGV[1], base .. ':v:' .. ARGV[1]
local job = load(id)
if not job or job[STATUS] ~= RUNNING or job[GRANT] ~= ARGV[2] then
  return { 3, {} }
end
local wrote = false
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', name, ARGV[i])
  else
    redis.call('HSET', name, ARGV[i], ARGV[i + 1])
    wrote = true
  end
end
if wrote then
  -- The run that wrote last: settle takes no value of an earlier one for one of its own that a failover forgot.
  redis.call('HSET', name, 'by', ARGV[2])
end
-- The pruner deletes it with the record; this is the backstop, far enough for a retry that waits and works as long as it may.
redis.call('PEXPIRE', name, text(job[RESULT_TTL] + job[QUEUE_TIMEOUT] + job[TIMEOUT] + 86400000))
if ARGV[3] == '' then
  return { 1, {} }
end
redis.call('HSET', RECORD .. id, 'p', ARGV[3])
return { 1, watched({ id }) }
