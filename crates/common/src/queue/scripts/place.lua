-- place: where a waiting job stands.
-- ARGV[1] id   ARGV[2] most entries that are counted
-- Returns { in a stream (1) or where it waits for its model's turn (2), entries before it, there may be more (1), holder of its concurrency key or '', waiters before it }
-- Atomic because the job may move between the looks.
local job, most = load(ARGV[1]), tonumber(ARGV[2])
if not job or job[STATUS] >= DONE or job[STATUS] == RUNNING then
  return { 0, 0, 0, '', 0 }
end
if job[STATUS] == BLOCKED then
  local before = redis.call('ZRANK', base .. ':kw:' .. job[KEY], ARGV[1]) or 0
  return { 0, 0, 0, redis.call('GET', base .. ':k:' .. job[KEY]) or '', before }
elseif job[TICKET] == '' then
  return { 0, 0, 0, '', 0 }
end
if job[TICKET] == NO_ENTRY then
  -- Of the jobs of its model; those of higher ranks are counted by their priorities.
  local set = turn_set(job)
  local rank = math.floor(redis.call('ZSCORE', set, ARGV[1]) / PER_RANK)
  local before = redis.call('ZRANK', set, ARGV[1]) - redis.call('ZCOUNT', set, '-inf', text(rank * PER_RANK - 1))
  return { 2, math.min(before, most), before > most and 1 or 0, '', 0 }
end
local delivered = '-'
local groups = redis.pcall('XINFO', 'GROUPS', base .. LANES[job[LANE]])
for _, group in ipairs(groups.err and {} or groups) do
  for i = 1, #group, 2 do
    if group[i] == 'last-delivered-id' then
      delivered = '(' .. group[i + 1]
    end
  end
end
local before = #redis.call('XRANGE', base .. LANES[job[LANE]], delivered, '(' .. job[TICKET], 'COUNT', most + 1)
return { 1, math.min(before, most), before > most and 1 or 0, '', 0 }
