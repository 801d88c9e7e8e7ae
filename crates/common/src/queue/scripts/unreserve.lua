-- unreserve: frees an idempotency key whose submit was refused.
-- KEYS[1] overshot:idem:{<hash of the key>}   ARGV[1] job id that must still own it
-- Returns 1 freed, 0 owned by another job.
-- Atomic because another submit may have taken it meanwhile.
local booked = redis.call('GET', KEYS[1])
if booked and string.sub(booked, 17) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
