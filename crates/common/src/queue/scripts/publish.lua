-- publish: keeps and announces what running attempts put out, and notes how far they are.
-- ARGV[1] most chunks kept per job
-- Then per item: id, grant, phase (0 unchanged), provider ('' unchanged), progress (JSON or ''), number of the last chunk that was
--   acknowledged, number of the first one here, count, then as many chunks (JSON)
-- Returns one reply per item: 1 published; 3 the grant does not hold; -n, the log ends with chunk n, before what was
--   acknowledged, and nothing was added to it
-- Atomic because a worker that lost its grant must not add to what readers see.
local function announce(id, event_id, event, data)
  redis.call(PUBLISH, channel(id), '{"id":"' .. event_id .. '","event":"' .. event .. '","data":' .. data .. '}')
end

local function number(job)
  return string.match(job[GRANT], '^%d+')
end

-- The first chunk of an attempt comes now.
local function begin(id, job)
  if job[CHUNKED] == 1 then
    local event_id, data = number(job) .. '-0', '{"attempt":' .. job[ATTEMPTS] .. '}'
    redis.call('XADD', base .. ':c:' .. id, event_id, 'a', data)
    announce(id, event_id, 'attempt', data)
  end
  job[FIRST_CHUNK], job[PHASE], job[CHUNKED] = now, 4, 1
end

local function note(id, job, phase, provider, progress, begins)
  if progress ~= '' then
    redis.call('HSET', RECORD .. id, 'p', progress)
  end
  local changed = begins
  -- What is told beside the first chunk comes before it, also where it is sent again after a lost reply.
  if phase > 0 and job[PHASE] ~= phase and job[FIRST_CHUNK] == 0 then
    job[PHASE], changed = phase, true
  end
  if provider ~= '' and job[PROVIDER] ~= provider then
    job[PROVIDER], changed = provider, true
  end
  if begins then
    begin(id, job)
  end
  if changed then
    save(id, job)
    touched[#touched + 1] = id
  end
end

local function publish(id, job, first, chunks)
  local name, number = base .. ':c:' .. id, number(job)
  for i, data in ipairs(chunks) do
    local event_id = number .. '-' .. (first + i - 1)
    -- Sent again after a lost reply, the id does not grow and Redis refuses it: readers see each chunk once.
    local added = redis.pcall('XADD', name, 'MAXLEN', '~', ARGV[1], event_id, 'd', data)
    if type(added) == 'string' then
      announce(id, event_id, 'chunk', data)
    elseif not string.find(added.err, 'equal or smaller', 1, true) then
      return added
    end
  end
end

local replies, i = {}, 2
while i < #ARGV do
  local id, grant, total = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 7])
  local job = load_state(id)
  if job and job[STATUS] == RUNNING and job[GRANT] == grant then
    local acknowledged = tonumber(ARGV[i + 5])
    local last = total > 0 and acknowledged > 0 and last_chunk(id, grant, acknowledged) or acknowledged
    local begins = total > 0 and last == acknowledged and job[FIRST_CHUNK] == 0
    note(id, job, tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4], begins)
    if last < acknowledged then
      replies[#replies + 1] = -last
    else
      local chunks = {}
      for place = 1, total do
        chunks[place] = ARGV[i + 7 + place]
      end
      local failed = total > 0 and publish(id, job, tonumber(ARGV[i + 6]), chunks)
      if failed then
        return failed
      end
      replies[#replies + 1] = 1
    end
  else
    replies[#replies + 1] = 3
  end
  i = i + 8 + total
end
return { replies, watched(touched) }
