-- limits: how much waits in the shard, against what it may hold.

-- How many jobs wait, and how many bytes of input.
local function waiting_now()
  local counts_now = redis.call('HMGET', base .. ':n', 'w1', 'w2', 'w3', 'scheduled', 'blocked', 'retrying', 'retries', 'bytes')
  local waiting = 0
  for i = 1, 6 do
    waiting = waiting + (counts_now[i] or 0)
  end
  -- A retry that is back in its stream counts in both.
  return waiting - (counts_now[7] or 0), tonumber(counts_now[8] or 0)
end
