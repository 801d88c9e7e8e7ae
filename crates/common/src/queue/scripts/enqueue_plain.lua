-- enqueue_plain: accepts jobs that are due now and have nothing of their own: no concurrency key, deadline or audio, no wish for a
-- live worker. What enqueue.lua does, without what such jobs do not use; most jobs are of this kind. Few functions and tables, since
-- a call of one job pays for each.
-- ARGV[1] most jobs that may wait   ARGV[2] most bytes of input that may wait
-- ARGV[3] the jobs' stages   ARGV[4] their owners' services, both as lib/limits.lua reads them
-- Then per job, at most 1000, no id twice: id, plan (below), facts with a small input behind them, an input that is not small or '',
--   metadata (JSON or '')
-- Returns { now, reply per job }: 1 accepted; or, as there, { 2 } this id is there already; { 3 } full; { 6 } this id came and went
-- Atomic because record, ticket and limits must agree; sent again, it answers 2.
local waiting, bytes = read_counters(ARGV[3], ARGV[4])
local max_waiting, max_bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
-- Priority; how long the result is kept and the bytes of input, as they stand in the state; how long it may wait; its stage and
-- its service, counted from 1, 0 none.
local PLAN, AT_KEPT, AT_QUEUE_TIMEOUT = '>BI5I4I5BB', 2, 11
-- Where the owner's texts stand in the facts of a job without a concurrency key.
local AT_OWNER = 23

-- All are looked for at once: that one is there is rare.
local records = {}
for i = 5, #ARGV, 5 do
  records[i / 5] = RECORD .. ARGV[i]
end
local some_there = redis.call('EXISTS', unpack(records)) > 0

local replies, open, n_open, by_owner, rung = {}, { 'ZADD', base .. ':open' }, 2, {}, 0
-- What the states of a priority begin with, up to the deadline, and its stream; the deadline of those that may wait as long. The
-- last job's, since most are as the one before.
local priority_before, head, stream, timeout_before, deadline
local times = now_packed .. now_packed .. NO_TIME .. NO_TIME .. NO_TIME .. NO_TIME .. NO_TIME
for i, name in ipairs(records) do
  local at = 5 * i
  local id, plan = ARGV[at], ARGV[at + 1]
  local priority, _, size, queue_timeout, stage, service = struct.unpack(PLAN, plan)
  if some_there and redis.call('EXISTS', name) == 1 then
    replies[i] = redis.call('HEXISTS', name, 's') == 1 and { 2 } or { 6 }
  elseif waiting >= max_waiting or bytes + size > max_bytes then
    replies[i] = { 3 }
  else
    if priority ~= priority_before then
      priority_before, stream = priority, base .. LANES[priority]
      head = string.char(QUEUED, priority, priority, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) .. now_packed
    end
    if queue_timeout ~= timeout_before then
      timeout_before, deadline = queue_timeout, struct.pack('>I6', now + queue_timeout)
    end
    -- The entry is only a ticket: the record names the one that counts.
    local ticket = redis.call('XADD', stream, '*', 'j', id)
    local state = head .. deadline .. string.sub(plan, AT_KEPT, AT_QUEUE_TIMEOUT - 1) .. times .. string.char(enter_stage(stage))
      .. ticket .. '\0\0\0\0'
    redis.call('HSET', name, 's', state, 'f', ARGV[at + 2])
    if ARGV[at + 3] ~= '' then
      redis.call('HSET', name, size > LARGE and 'I' or 'i', ARGV[at + 3])
    end
    if ARGV[at + 4] ~= '' then
      redis.call('HSET', name, 'd', ARGV[at + 4])
    end
    open[n_open + 1], open[n_open + 2] = '0', id
    n_open = n_open + 2
    if service > 0 then
      enter_service(service)
      -- As `listings` of lib/record.lua has them.
      local owner = { struct.unpack('sss', ARGV[at + 2], AT_OWNER) }
      for place, letter in ipairs({ 's', 'r', 'a' }) do
        local listing = base .. ':t' .. letter .. ':' .. owner[place]
        if owner[place] ~= '' then
          local listed = by_owner[listing] or { 'ZADD', listing }
          by_owner[listing], listed[#listed + 1], listed[#listed + 2] = listed, '0', id
        end
      end
    end
    -- The counter of the priority.
    added[2 + priority] = (added[2 + priority] or 0) + 1
    waiting, bytes, rung = waiting + 1, bytes + size, rung + 1
    replies[i] = QUEUED
  end
end
if rung > 0 then
  added[BYTES_AT] = bytes - (held[BYTES_AT - 2] or 0)
  redis.call(unpack(open))
  for _, listed in pairs(by_owner) do
    redis.call(unpack(listed))
  end
  write_counters()
  ring(rung)
end
return { now, replies }
