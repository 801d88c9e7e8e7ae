-- enqueue_plain: accepts jobs that are due now and have nothing of their own: no concurrency key, deadline or audio, no wish for a
-- live worker. What enqueue.lua does, without what such jobs do not use; most jobs are of this kind.
-- ARGV[1] most jobs that may wait   ARGV[2] most bytes of input that may wait
-- ARGV[3] the jobs' stages   ARGV[4] their owners' services, both as lib/limits.lua reads them
-- Then per job: id, plan (below), facts with a small input behind them, an input that is not small or '', metadata (JSON or '')
-- Returns { now, reply per job }: 1 accepted; or, as there, { 2 } this id is there already; { 3 } full; { 6 } this id came and went
-- Atomic because record, ticket and limits must agree; sent again, it answers 2.
local waiting, bytes = waiting_now(labels(ARGV[3], ARGV[4]))
local max_waiting, max_bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
-- Priority; how long the result is kept and the bytes of input, as they stand in the state; how long it may wait; its stage and
-- its service, counted from 1, 0 none. Behind that the listings that it asks for.
local PLAN, AT_KEPT, AT_QUEUE_TIMEOUT, AT_TAGS = '>BI5I4I5BB', 2, 11, 18

-- What the states of a priority begin with, up to the deadline; the deadlines by how long the jobs may wait; the streams, and how
-- many enter them.
local heads, deadlines, streams, entered_by = {}, {}, {}, {}
local before_queue, no_texts = '\0\0\0\0\0\0\0\0\0\0\0\0\0' .. now_packed, '\0\0\0\0'
local times = now_packed .. now_packed .. NO_TIME .. NO_TIME .. NO_TIME .. NO_TIME .. NO_TIME
local open, before = batch_of('ZADD', ':open'), bytes

local function accept(id, name, plan, facts, input, metadata)
  local priority, _, size, queue_timeout, stage, service = struct.unpack(PLAN, plan)
  local known = known_before(id, name)
  if known then
    return known
  elseif waiting >= max_waiting or bytes + size > max_bytes then
    return { 3 }
  end
  if not heads[priority] then
    heads[priority] = string.char(QUEUED, priority, priority) .. before_queue
    streams[priority] = base .. LANES[priority]
    entered_by[priority] = 0
  end
  deadlines[queue_timeout] = deadlines[queue_timeout] or struct.pack('>I6', now + queue_timeout)
  -- The entry is only a ticket: the record names the one that counts.
  local ticket = redis.call('XADD', streams[priority], '*', 'j', id)
  local state = heads[priority] .. deadlines[queue_timeout] .. string.sub(plan, AT_KEPT, AT_QUEUE_TIMEOUT - 1) .. times
    .. string.char(enter_stage(stage)) .. ticket .. no_texts
  enter_service(service)
  redis.call('HSET', name, 's', state, 'f', facts)
  if input ~= '' then
    redis.call('HSET', name, size > LARGE and 'I' or 'i', input)
  end
  if metadata ~= '' then
    redis.call('HSET', name, 'd', metadata)
  end
  add(open, '0', id)
  if #plan >= AT_TAGS then
    for tag in string.gmatch(string.sub(plan, AT_TAGS), '%S+') do
      defer('ZADD', ':t:' .. tag, '0', id)
    end
  end
  waiting, bytes = waiting + 1, bytes + size
  accepted[id], entered_by[priority] = true, entered_by[priority] + 1
  return QUEUED
end

look_for(5)
local replies = {}
for i = 5, #ARGV, 5 do
  local place = i / 5
  replies[place] = accept(ARGV[i], records[place], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
end
for priority, entered in pairs(entered_by) do
  count(WAITING[priority], entered)
  rings = rings + entered
end
count('bytes', bytes - before)
store_labels()
store_counts()
flush()
return { now, replies }
