-- expire: ends waiting jobs whose queue deadline has passed.
-- ARGV[1] most jobs
-- Returns { how many, watched ids }
-- Atomic because a claim may take the job between check and write.
-- Jobs with a common deadline stand in their stream in the order of it, so that only its head is looked at; all others are in :exp.
local most, ended = tonumber(ARGV[1]), 0

local function expire(id, job)
  withdraw(id, job)
  finish(id, job, EXPIRED, deadline_error(job), '')
  ended = ended + 1
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. ':exp', '-inf', now, 'LIMIT', 0, most)) do
  local job = load(id)
  if job and job[STATUS] ~= RUNNING and job[STATUS] < DONE and job[EXPIRES] <= now then
    expire(id, job)
  else
    redis.call('ZREM', base .. ':exp', id)
  end
end

-- Whether entry id `a` comes after `b`, which may be '-' or an exclusive one.
local function later(a, b)
  local a_ms, a_seq = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '(%d+)-(%d+)')
  if not b_ms or a_ms ~= b_ms then
    return not b_ms or tonumber(a_ms) > tonumber(b_ms)
  end
  return tonumber(a_seq) > tonumber(b_seq)
end

local function expire_head(lane)
  local groups = redis.pcall('XINFO', 'GROUPS', base .. LANES[lane])
  local delivered = '-'
  for _, group in ipairs(groups.err and {} or groups) do
    local info = {}
    for i = 1, #group, 2 do
      info[group[i]] = group[i + 1]
    end
    delivered = '(' .. info['last-delivered-id']
  end
  -- Jobs with a deadline of their own are in :exp; a crowd of them must not hide those behind it, so that the place up to
  -- which there are only such jobs is kept. Entries only ever go in behind it.
  local place = redis.call('HGET', base .. ':ctl', 'passed' .. lane)
  local passed = place and later(place, delivered) and '(' .. place or delivered
  local seen
  for _, entry in ipairs(redis.call('XRANGE', base .. LANES[lane], passed, '+', 'COUNT', most)) do
    local id = entry[2][2]
    local job = load(id)
    if not job or job[TICKET] ~= entry[1] then
      redis.call('XDEL', base .. LANES[lane], entry[1])
    elseif job[EXPIRES] <= now then
      if ended >= most then
        break
      end
      expire(id, job)
    elseif job[OWN_DEADLINE] == 0 then
      break
    end
    seen = entry[1]
  end
  if seen then
    redis.call('HSET', base .. ':ctl', 'passed' .. lane, seen)
  end
end

for lane = 1, 3 do
  expire_head(lane)
end
flush()
return { ended, watched(touched) }
