-- provider_report: counts what calls of one worker came to, opens and closes circuits by it, and tells how the provider is.
-- KEYS[1] overshot:{provider:<name>}
-- ARGV[1] worker   ARGV[2] number of this report   ARGV[3] failures that open a circuit, 0: none do   ARGV[4] window, ms
-- ARGV[5] time open, ms   ARGV[6] spread of that, 0 to 1   ARGV[7] ms that the last answer took, or ''
-- ARGV[8] what is loaded (JSON), or ''
-- per item: what, model, number, word
--   ok        so many calls were answered; 0: one goes on
--   bad       one failed by the provider's fault; the word is its code
--   trial_ok, trial_bad   the same of a trial
--   drop      the trial of the holder in word came to nothing
--   pause     asked to be left alone for so many ms; the word is the code
--   waking    a wake has begun and may take so many ms
--   unwoken   a wake failed; the next may begin after so many ms
-- Returns { now, last answer, waking until, then model and circuit of each that is not at rest }
-- Atomic because many workers count into one circuit. A report that is sent twice counts once, by its number.
local worker, number, threshold, window, open_for, spread =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
-- No pause and no trial is longer: what a provider may ask for is cut to ten minutes.
local PAUSED_MOST_MS, TRIAL_MOST_MS = 600000, 60000
local news, facts = false, { 'reported', text(now) }

local function fact(name, value)
  facts[#facts + 1] = name
  facts[#facts + 1] = value
end

local function roll(circuit)
  if now - circuit[SINCE] >= window or now < circuit[SINCE] then
    circuit[GOOD], circuit[BAD], circuit[SINCE] = 0, 0, now
  end
end

local function shut(circuit)
  circuit[CONSECUTIVE], circuit[GOOD], circuit[BAD], circuit[SINCE] = 0, 0, 0, now
  circuit[OPENED], circuit[UNTIL], circuit[TRIAL], circuit[HOLDER] = 0, 0, 0, '-'
  news = true
end

local function open(circuit)
  local pause = math.min(open_for * 2 ^ circuit[OPENED], math.max(open_for, 60000))
  circuit[OPENED], circuit[UNTIL] = math.min(circuit[OPENED] + 1, 30), now + math.floor(pause * (1 + spread / 4))
  circuit[TRIAL], circuit[HOLDER] = 0, '-'
  news = true
end

local function went_well(circuit, calls, trial)
  if calls == 0 then
    -- A call goes on: the provider does not sleep.
    return
  elseif circuit[OPENED] == 0 then
    roll(circuit)
    circuit[GOOD], circuit[CONSECUTIVE] = circuit[GOOD] + calls, 0
  elseif trial or circuit[UNTIL] <= now then
    shut(circuit)
  end
  if trial then
    circuit[TRIAL], circuit[HOLDER] = 0, '-'
  end
end

local function failed(circuit, model, code, trial)
  circuit[CODE] = code
  fact('error', code)
  fact('error_at', text(now))
  if circuit[OPENED] > 0 then
    -- Others than the trial were under way when it opened, and of trials beside each other the first to fail is enough.
    if trial and circuit[UNTIL] <= now then
      open(circuit)
    end
    return
  end
  roll(circuit)
  circuit[BAD], circuit[CONSECUTIVE] = circuit[BAD] + 1, circuit[CONSECUTIVE] + 1
  local row = circuit[CONSECUTIVE] >= threshold
  local rate = circuit[BAD] >= threshold and circuit[BAD] >= circuit[GOOD]
  -- Where a check finds nobody, calls need not find out one by one. The trial of a model fails here after another was answered.
  if threshold > 0 and (row or rate or (trial and model == '*')) then
    open(circuit)
  end
end

local function count_item(what, model, amount, word)
  local stored = redis.call('HGET', base .. ':circuits', model)
  if not stored and redis.call('HLEN', base .. ':circuits') >= CIRCUITS_MAX then
    return
  end
  local circuit = read_circuit(stored)
  if what == 'ok' or what == 'trial_ok' then
    fact('answered', text(now))
    went_well(circuit, amount, what == 'trial_ok')
    if what == 'trial_ok' and redis.call('HDEL', base .. ':facts', 'waking') == 1 then
      news = true
    end
  elseif what == 'bad' or what == 'trial_bad' then
    failed(circuit, model, word, what == 'trial_bad')
  elseif what == 'drop' then
    if circuit[HOLDER] == word then
      circuit[TRIAL], circuit[HOLDER] = 0, '-'
      redis.call('HDEL', base .. ':facts', 'waking')
      news = true
    end
  elseif what == 'waking' then
    redis.call('HSET', base .. ':facts', 'waking', string.format('%.0f', now + amount), 'waking_since', text(now))
    news = true
  else
    circuit[PAUSED], circuit[CODE] = math.max(circuit[PAUSED], now + amount), word
    fact('error', word)
    fact('error_at', text(now))
    if what == 'unwoken' then
      redis.call('HDEL', base .. ':facts', 'waking')
      circuit[TRIAL], circuit[HOLDER] = 0, '-'
    end
    news = true
  end
  write_circuit(model, circuit)
end

if redis.call('HGET', base .. ':seen', worker) ~= number then
  if redis.call('HLEN', base .. ':seen') >= 4096 then
    redis.call('DEL', base .. ':seen')
  end
  redis.call('HSET', base .. ':seen', worker, number)
  redis.call('PEXPIRE', base .. ':seen', KEPT_MS)
  for i = 9, #ARGV, 4 do
    count_item(ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3])
  end
  if ARGV[7] ~= '' then
    fact('latency', ARGV[7])
  end
  if ARGV[8] ~= '' then
    fact('loaded', ARGV[8])
  end
  redis.call('HSET', base .. ':facts', unpack(facts))
  redis.call('PEXPIRE', base .. ':facts', KEPT_MS)
  if news then
    tell_workers()
  end
end

local answered = redis.call('HMGET', base .. ':facts', 'answered', 'waking', 'waking_since')
if tonumber(answered[1] or 0) > now then
  -- Else one that sleeps would not be taken for asleep until the clock is where it was before it stepped back.
  answered[1] = text(now)
  redis.call('HSET', base .. ':facts', 'answered', answered[1])
end
if answered[2] and tonumber(answered[3] or 0) > now then
  -- Nor would anybody wake it again, where who began to before that step died.
  answered[2] = nil
  redis.call('HDEL', base .. ':facts', 'waking')
end
local reply = { text(now), answered[1] or '0', answered[2] or '0' }
local circuits = redis.call('HGETALL', base .. ':circuits')
local furthest = { [UNTIL] = 2 * math.max(open_for, 60000), [PAUSED] = PAUSED_MOST_MS, [TRIAL] = TRIAL_MOST_MS }
for i = 1, #circuits, 2 do
  local circuit, stepped = read_circuit(circuits[i + 1]), false
  for place, most in pairs(furthest) do
    if circuit[place] > now + most then
      -- Further ahead than anything noted now could be, it was noted before the clock stepped back. Or by a worker whose time
      -- open is longer: a trial at once would follow on each that failed.
      circuit[place], stepped = now + (place == UNTIL and open_for or 0), true
    end
  end
  if stepped then
    write_circuit(circuits[i], circuit)
    circuits[i + 1] = table.concat(circuit, ' ')
    circuit = read_circuit(circuits[i + 1])
  end
  if circuit[CONSECUTIVE] > 0 or circuit[OPENED] > 0 or circuit[PAUSED] > now or circuit[TRIAL] > now then
    reply[#reply + 1] = circuits[i]
    reply[#reply + 1] = circuits[i + 1]
  elseif now - circuit[SINCE] > 3600000 then
    redis.call('HDEL', base .. ':circuits', circuits[i])
  end
end
return reply
