-- log: where a job's log of chunks ends.

local function number_of(chunk, grant)
  local run, number = string.match(chunk or '', '^(%d+)-(%d+)$')
  return run == string.match(grant, '^%d+') and tonumber(number) or 0
end

-- The number of the last chunk that the run under `grant` has in the log; 0, none. What was acknowledged may be missing after a
-- failover: whoever goes on from there asks first. Where it is, chunks that were deleted by hand count: Redis takes none of their
-- ids again.
local function last_chunk(id, grant, acknowledged)
  local name = base .. ':c:' .. id
  local last = redis.call('XREVRANGE', name, '+', '-', 'COUNT', 1)[1]
  local number = number_of(last and last[1], grant)
  local about = number < acknowledged and redis.pcall('XINFO', 'STREAM', name) or {}
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then
      return number_of(about[i + 1], grant)
    end
  end
  return number
end
