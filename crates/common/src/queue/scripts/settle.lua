-- settle: writes what running attempts came to, each judged alone. At most 2000 a call.
-- ARGV per item: id, grant, how (below), error (JSON or ''), result (JSON or '')
--   how: outcome (1 completed, 2 failed, 3 retry, 4 cancelled), delay before the retry (ms), number of the last chunk that was
--   acknowledged, how many values stand beside the record at least, provider that ran it, or nothing, with spaces between.
--   A completed one has an error as well, where values stand beside it: that of the retry which it is when they do not.
-- Returns { reply per item, watched ids, next due time or 0 }: the status settled to; the status less 100, settled before under
--   this grant; 0, the grant does not hold; 1000 and n, the log of chunks ends with chunk n: nothing was settled
-- Atomic because the reaper may give the job to another worker between check and write.
local replies, next_due = {}, 0
-- What completed in the usual way, filed at the end: Lua passes some 8000 arguments, of which a job takes two.
local completed, n_completed, tickets, by_stage = {}, 0, {}, {}
-- So few entries are not worth a look for what runs before them.
local FEW = 8
-- Each `how` read once: those of a call are few.
local hows = {}
local function read_how(how)
  local read = { string.match(how, '^(%d) (%d+) (%d+) (%d+) (.*)$') }
  hows[how] = read
  return read
end

-- Whether the run under `grant` wrote last beside the record, and so many values stand there, beside its own name.
local function has_values(id, grant, values)
  local name = base .. ':v:' .. id
  return redis.call('HLEN', name) > values and redis.call('HGET', name, 'by') == grant
end

-- The reply for a run whose last chunks are not there, though they were acknowledged; nil, they are.
local LAST_CHUNK = 1000
local function behind(id, grant, chunks)
  local last = chunks > 0 and last_chunk(id, grant, chunks) or chunks
  return last < chunks and LAST_CHUNK + last or nil
end

local function settle(id, state, grant, outcome, delay, chunks, values, err, result, provider)
  local job = parse(state)
  if job[GRANT] ~= grant then
    return 0
  elseif job[STATUS] ~= RUNNING then
    return job[STATUS] - 100
  end
  if outcome == '1' then
    local reply = behind(id, grant, tonumber(chunks))
    if reply then
      return reply
    elseif values ~= '0' and not has_values(id, grant, tonumber(values)) then
      outcome, delay, result = '3', '0', ''
    else
      err = ''
    end
  end
  if outcome == '3' or job[KEYED] == 1 then
    load_facts(id, job)
  end
  revoke(id, job)
  if outcome == '3' then
    delay = tonumber(delay)
    job[FAILURES] = job[FAILURES] + 1
    if job[CANCEL_AT] > 0 then
      outcome, err = '4', '{"code":"cancelled","message":"cancelled while it ran"}'
    elseif job[FAILURES] >= job[MAX_ATTEMPTS] then
      outcome = '2'
    else
      -- A failed run starts a new wait: its deadline counts from the retry.
      job[EXPIRES] = now + delay + job[QUEUE_TIMEOUT]
      schedule(id, job, RETRYING, now + delay)
      next_due = next_due == 0 and job[RUN_AT] or math.min(next_due, job[RUN_AT])
      job[PROVIDER] = provider
      tally(string.char(job[STAGE]) .. 'r' .. code_of(err))
      redis.call('HSET', RECORD .. id, 'e', err)
      -- What it had put out stays visible, until a later attempt puts out more.
      if result ~= '' then
        redis.call('HSET', RECORD .. id, 'r', result)
      end
      save(id, job)
      touched[#touched + 1] = id
      return RETRYING
    end
  elseif outcome == '2' then
    job[FAILURES] = job[FAILURES] + 1
  end
  local status = outcome == '1' and DONE or outcome == '2' and FAILED or CANCELLED
  finish(id, job, status, err, result, provider)
  return status
end

-- Ends a job as most end: completed, without crash, cancel or concurrency key. False where it is not such a job.
local function complete(id, name, state, grant, chunks, values, result, provider)
  local status, lane, _, _, in_exp, _, chunked, keyed = string.byte(state, 1, 8)
  if status ~= RUNNING or in_exp + keyed > 0 or values ~= '0' or string.byte(state, AT_CRASHES + 1) > 0 or string.sub(state, AT_CANCEL, AT_COMPLETED - 1) ~= NO_TIME then
    return false
  end
  local ticket, held, worker = struct.unpack('sss', state, AT_TEXTS)
  if held ~= grant then
    return false
  end
  local reply = chunks ~= '0' and behind(id, grant, tonumber(chunks))
  if reply then
    return reply
  end
  local stage = string.sub(state, AT_STAGE, AT_STAGE)
  local new = string.char(DONE) .. string.sub(state, 2, 3) .. '\0\0\0' .. string.sub(state, 7, AT_UPDATED - 1) .. now_packed .. string.sub(state, AT_STARTED, AT_COMPLETED - 1)
    .. now_packed .. stage .. '\0' .. grant .. '\0' .. worker .. '\0' .. provider .. '\0'
  redis.call('HSET', name, 's', new, 'r', result)
  local ttl = struct.unpack('>I5', state, AT_RESULT_TTL)
  retain(id, name, ttl)
  if chunked == 1 then
    redis.call('PEXPIRE', base .. ':c:' .. id, text(ttl))
  end
  by_stage[stage] = (by_stage[stage] or 0) + 1
  n_completed = n_completed + 1
  completed[n_completed] = id
  local of_lane = tickets[lane]
  if of_lane then
    of_lane[#of_lane + 1] = ticket
  else
    tickets[lane] = { ticket }
  end
  return DONE
end

for i = 1, #ARGV, 5 do
  local id, grant, how, err, result = unpack(ARGV, i, i + 4)
  local outcome, delay, chunks, values, provider = unpack(hows[how] or read_how(how))
  local name = RECORD .. id
  local state = redis.call('HGET', name, 's')
  replies[(i + 4) / 5] = not state and 0 or outcome == '1' and complete(id, name, state, grant, chunks, values, result, provider)
    or settle(id, state, grant, outcome, delay, chunks, values, err, result, provider)
end

-- Ids are `<ms>-<sequence>`; the first part has thirteen digits until 2286.
local function comes_after(a, b)
  if #a == #b then
    return a > b
  end
  local a_ms, b_ms = string.sub(a, 1, 13), string.sub(b, 1, 13)
  return a_ms > b_ms or a_ms == b_ms and #a > #b
end

-- Takes the entries of completed jobs off their stream. Redis looks for each one that is to be deleted from the start of its
-- node. What was delivered before the first entry that still runs has all been settled: many entries go with that at once, by
-- whole nodes.
local function drop_all(name, entries)
  redis.call('XACK', name, 'workers', unpack(entries))
  if #entries > FEW then
    -- No group, because somebody deleted it: nothing is known of what runs.
    local pending = redis.pcall('XPENDING', name, 'workers', '-', '+', 1)
    local first_running, behind, last = pending.err and '0-0' or pending[1] and pending[1][1], {}, nil
    for _, entry in ipairs(entries) do
      if first_running and comes_after(entry, first_running) then
        behind[#behind + 1] = entry
      elseif not last or comes_after(entry, last) then
        last = entry
      end
    end
    if #entries - #behind > FEW then
      -- Up to the last of its own: what was not delivered stands behind it.
      local ms, sequence = string.match(last, '^(%d+)-(%d+)$')
      redis.call('XTRIM', name, 'MINID', '=', ms .. '-' .. text(sequence + 1))
      entries = behind
    end
  end
  if #entries > 0 then
    redis.call('XDEL', name, unpack(entries))
  end
end

if n_completed > 0 then
  local listed = {}
  for i = 1, n_completed do
    listed[2 * i - 1], listed[2 * i] = '0', completed[i]
  end
  redis.call('ZREM', base .. ':leases', unpack(completed))
  redis.call('ZREM', base .. ':open', unpack(completed))
  redis.call('ZADD', base .. ENDED[DONE], unpack(listed))
  for lane, entries in pairs(tickets) do
    drop_all(base .. LANES[lane], entries)
  end
  for stage, number in pairs(by_stage) do
    tally(stage .. 'c', number)
  end
end
flush()
return { replies, watched_beside(completed, 1), next_due }
