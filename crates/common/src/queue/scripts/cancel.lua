-- cancel: ends waiting jobs, asks the holders of running ones to stop.
-- ARGV ids
-- Returns { reply per job, watched ids }: 0 unknown, 1 cancelled, 2 asked to stop, 3 cancelled before, 4 ended otherwise
-- Atomic because the job may be claimed or settled between check and write.
local replies = {}
for i, id in ipairs(ARGV) do
  local job = load(id)
  replies[i] = job and cancel(id, job) or 0
end
flush()
return { replies, watched(touched) }
