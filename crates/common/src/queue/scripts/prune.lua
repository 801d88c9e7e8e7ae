-- prune: forgets ended jobs at the end of their retention.
-- ARGV[1] most jobs
-- Returns how many
-- Atomic because a retry by hand may take the job back between check and delete.
local ids = redis.call('ZRANGEBYSCORE', base .. ':keep', '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  redis.call('ZREM', base .. ':keep', id)
  local name = RECORD .. id
  local job = load(id)
  if job and job[STATUS] >= DONE then
    defer('ZREM', ENDED[job[STATUS]], id)
    for tag in string.gmatch(job[TAGS], '%S+') do
      defer('ZREM', ':t:' .. tag, id)
    end
    redis.call('DEL', name, base .. ':c:' .. id)
    if job[IDEMPOTENT_UNTIL] > now then
      -- Its idempotency key may still be sent: then the job came and went, and must not run again.
      redis.call('HSET', name, 'gone', 1)
      redis.call('PEXPIREAT', name, string.format('%.0f', job[IDEMPOTENT_UNTIL] + 60000))
    end
  elseif not job then
    -- Redis' own TTL was first (nobody pruned for a day): the listing must not keep the id.
    for _, index in pairs(ENDED) do
      defer('ZREM', index, id)
    end
  end
end
flush()
return #ids
