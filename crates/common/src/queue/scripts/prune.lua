-- prune: forgets ended jobs at the end of their retention.
-- ARGV[1] most jobs
-- Returns how many
-- Atomic because a retry by hand may take the job back between check and delete.
local most, looked = tonumber(ARGV[1]), 0

local function prune(id)
  local name = RECORD .. id
  local job = load(id)
  -- One that was run again by hand has another second, or none yet.
  if job and job[STATUS] >= DONE and job[COMPLETED] + job[RESULT_TTL] <= now then
    defer('ZREM', ENDED[job[STATUS]], id)
    for _, listing in ipairs(listings(job)) do
      defer('ZREM', listing, id)
    end
    redis.call('UNLINK', name, base .. ':c:' .. id, base .. ':v:' .. id, base .. ':a:' .. id)
    if job[CREATED] + job[IDEMPOTENT_FOR] > now then
      -- Its idempotency key may still be sent: then the job came and went, and must not run again.
      redis.call('HSET', name, 'gone', 1)
      redis.call('PEXPIREAT', name, text(job[CREATED] + job[IDEMPOTENT_FOR] + 60000))
    end
  elseif not job then
    -- Redis' own TTL was first (nobody pruned for a day): the listing must not keep the id, nor its audio stay.
    redis.call('DEL', base .. ':a:' .. id)
    for _, index in pairs(ENDED) do
      defer('ZREM', index, id)
    end
  end
end

for _, second in ipairs(redis.call('ZRANGEBYSCORE', base .. ':keeps', '-inf', math.floor(now / 1000), 'LIMIT', 0, most)) do
  local ids = looked < most and redis.call('LPOP', base .. ':keep:' .. second, most - looked) or {}
  for _, id in ipairs(ids) do
    prune(id)
  end
  looked = looked + #ids
  if redis.call('EXISTS', base .. ':keep:' .. second) == 0 then
    redis.call('ZREM', base .. ':keeps', second)
  end
end
flush()
return looked
