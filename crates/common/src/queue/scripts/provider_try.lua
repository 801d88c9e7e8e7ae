-- provider_try: gives one worker of all the right to try a circuit that is half-open, to check the provider, or to wake it.
-- KEYS[1] overshot:{provider:<name>}
-- ARGV[1] holder   ARGV[2] model   ARGV[3] how long the right lasts at most, ms   ARGV[4] call, check or wake
-- ARGV[5] for wake: how long without an answer it is asleep, ms
-- Returns { 1, ms } it is yours for so long, { 2, 0 } there is no need, { 0, ms } not before
-- Atomic because of all who ask at the same time one may go. The same holder gets the same answer, and keeps the right longer.
local FIRST_MS = 2000
local holder, model, lasts, what = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local circuit = read_circuit(redis.call('HGET', base .. ':circuits', model))
if circuit[HOLDER] ~= holder then
  local free = math.max(circuit[PAUSED], circuit[TRIAL])
  if what ~= 'wake' then
    free = math.max(free, circuit[UNTIL])
  end
  local answered = tonumber(redis.call('HGET', base .. ':facts', 'answered') or 0)
  if what == 'call' and circuit[OPENED] == 0 and free <= now then
    return { 2, 0 }
  elseif what == 'wake' and now - answered < tonumber(ARGV[5]) then
    return { 2, 0 }
  elseif free > now then
    return { 0, free - now }
  end
end
if what == 'call' then
  -- A call may be long, and say nothing before its end. One that has not failed is as good a sign the longer it goes on: the next
  -- may go beside it after 2, 4, 8 s …, so that no single job holds up all others. Without a trial of late it begins anew.
  if circuit[TRIAL] + lasts <= now then
    circuit[UNTIL] = now
  end
  lasts = math.min(lasts, math.max(FIRST_MS, now - circuit[UNTIL]))
end
circuit[TRIAL], circuit[HOLDER] = now + lasts, holder
write_circuit(model, circuit)
return { 1, lasts }
