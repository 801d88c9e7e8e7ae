-- hand_back: returns running jobs to the head of the queue, their attempt not counted.
-- ARGV per item: id, grant
-- Returns { reply per item, watched ids }: the status (cancelled, where that was asked); the status less 100, done
--   before under this grant; 0, the grant does not hold
-- Atomic because the reaper may give the job to another worker between check and write.
local replies = {}

local function hand_back(id, grant)
  local job = load(id)
  if not job or job[GRANT] ~= grant then
    return 0
  elseif job[STATUS] ~= RUNNING then
    return job[STATUS] - 100
  end
  if take_back(id, job) then
    job[STATUS], job[FRONT] = QUEUED, 1
    push(id, job)
    save(id, job)
    touched[#touched + 1] = id
  end
  return job[STATUS]
end

for i = 1, #ARGV, 2 do
  replies[#replies + 1] = hand_back(ARGV[i], ARGV[i + 1])
end
flush()
return { replies, watched(touched) }
