-- log: where a job's log of chunks ends.

-- The number of the last chunk that the run under `grant` has in the log; 0, none. What was acknowledged may be missing after a
-- failover: whoever goes on from there asks first.
local function last_chunk(id, grant)
  local last = redis.call('XREVRANGE', base .. ':c:' .. id, '+', '-', 'COUNT', 1)[1]
  local run, number = string.match(last and last[1] or '', '^(%d+)-(%d+)$')
  return run == string.match(grant, '^%d+') and tonumber(number) or 0
end
