-- provider_turn: decides which model a provider runs that has room for one at a time, and who may begin jobs of it.
-- KEYS[1] overshot:{provider:<name>}
-- ARGV[1] worker   ARGV[2] begin, keep or leave   ARGV[3] model of its jobs in flight, or ''
-- ARGV[4] how long the right lasts without another word, ms   ARGV[5] after how long a model's wait is too long, ms
-- ARGV[6] how long a turn outlasts its last job, ms   ARGV[7] models that are loaded, each a line
-- For begin, the models whose jobs wait: name, ms for which the first has waited, …
-- Returns { 1 granted, 0 not; the model that may run; ms after which to ask again, 0: wait for news }
-- Atomic because of two workers that want different models one must wait, or the server would swap for every job.
local MODELS_MAX, USERS_MAX = 256, 1000
local worker, what, mine, lasts = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local users, turn = base .. ':users', base .. ':turn'
local stored = redis.call('HMGET', turn, 'model', 'next', 'next_until', 'free', 'waiting')
-- What lies further ahead than anything noted now could was noted before the clock stepped back.
local current, free = stored[1] or '', math.min(tonumber(stored[4] or 0), now)
local promised = tonumber(stored[3] or 0)
local heir = promised > now and promised <= now + lasts and stored[2]

local function note(...)
  redis.call('HSET', turn, ...)
  redis.call('PEXPIRE', turn, KEPT_MS)
end

local function use(model)
  redis.call('ZADD', users, text(now + lasts), worker)
  redis.call('PEXPIRE', users, KEPT_MS)
  return { 1, model, 0 }
end

local function refuse(wait)
  note('waiting', 1)
  return { 0, current, wait }
end

-- Of those whose right ended by itself nobody told.
local ended = redis.call('ZREMRANGEBYSCORE', users, '-inf', text(now))
if what == 'leave' or mine ~= current then
  ended = ended + redis.call('ZREM', users, worker)
end
local used = redis.call('ZCARD', users) > 0
if ended > 0 and not used then
  free = now
  note('free', text(now))
end
if what ~= 'begin' then
  if not used and stored[5] then
    redis.call('HDEL', turn, 'waiting')
    tell_workers()
  end
  if what == 'keep' and (mine == current or not used) then
    -- Where nobody else has it, it is taken back: Redis may have lost it.
    note('model', mine)
    return use(mine)
  end
  return { 0, current, 0 }
elseif mine ~= '' and mine ~= current then
  -- Its jobs outlived their turn: it begins nothing beside them.
  return refuse(0)
end

local loaded = {}
for model in string.gmatch(ARGV[7], '[^\n]+') do
  loaded[model] = true
end
local waits, chosen, best, hungriest, hunger = {}, nil, nil, nil, tonumber(ARGV[5])
for i = 8, #ARGV, 2 do
  local model, waited = ARGV[i], tonumber(ARGV[i + 1])
  waits[model] = waited
  -- What is loaded comes first, then what ran last, then who waits longest.
  local rank = (loaded[model] and 2 or 0) + (model == current and 1 or 0)
  if not chosen or rank > best or (rank == best and waited > waits[chosen]) then
    chosen, best = model, rank
  end
  -- A model that had its turn begins its wait anew: else a backlog would make the server swap for every job.
  local last = tonumber(redis.call('HGET', turn, 'l' .. model) or 0)
  local without = last > now and waited or math.min(waited, now - last)
  if model ~= current and without >= hunger then
    hungriest, hunger = model, without
  end
end
heir = heir ~= current and heir or hungriest
if heir and waits[heir] then
  note('next', heir, 'next_until', text(now + lasts))
end

if used then
  if heir or not waits[current] then
    draw_near(':users', now + lasts, USERS_MAX)
    return refuse(0)
  end
  return use(current)
elseif heir and not waits[heir] then
  return refuse(promised - now)
elseif not heir and chosen ~= current and now - free < tonumber(ARGV[6]) then
  -- The next job of the model that ran may be on its way.
  return refuse(ARGV[6] - (now - free))
end
chosen = heir or chosen
if chosen ~= current then
  if redis.call('HLEN', turn) > MODELS_MAX then
    redis.call('DEL', turn)
  end
  note('l' .. current, text(now), 'model', chosen)
end
redis.call('HDEL', turn, 'next', 'next_until')
return use(chosen)
