-- provider_take: keeps count of what one worker has in flight at a provider, and lets it begin more where the limits allow.
-- KEYS[1] overshot:{provider:<name>}
-- ARGV[1] worker   ARGV[2] number of this call   ARGV[3] how long its permits last without another call, ms
-- ARGV[4] jobs in flight   ARGV[5] more wanted   ARGV[6] tokens of each
-- ARGV[7] requests and ARGV[8] tokens wanted for jobs in flight, all or none
-- ARGV[9] most jobs in flight   ARGV[10] requests per minute   ARGV[11] tokens per minute, each 0: no limit
-- per refund: quarter in which it was taken, requests, tokens (negative where more was used than taken)
-- Returns { granted, 1 where what jobs in flight want is granted, quarter of this call, ms until more may be free }
-- Atomic because all workers draw on one limit. Jobs in flight come as a whole number, and a call that is sent again is known by
-- its number: no lost reply costs a permit.
local worker, number, lasts, held, wanted, each =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local more, extra = tonumber(ARGV[7]), tonumber(ARGV[8])
local most_held, most_requests, most_tokens = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local window = base .. ':window'

local stored = redis.call('HGET', base .. ':held', worker)
local before, last, replay = string.match(stored or '', '^(%d+) (%S+) (.*)$')
if last == number then
  local reply = {}
  for part in string.gmatch(replay, '%d+') do
    reply[#reply + 1] = tonumber(part)
  end
  return reply
end

local function whole(amount)
  return string.format('%.0f', amount)
end

local oldest = move_window()
local freed = held < tonumber(before or 0)
for i = 12, #ARGV, 3 do
  local taken, requests, tokens = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  if taken >= oldest and taken <= quarter then
    redis.call('HINCRBY', window, 'r' .. ARGV[i], 0 - requests)
    redis.call('HINCRBY', window, 't' .. ARGV[i], 0 - tokens)
    redis.call('HINCRBY', window, 'r', 0 - requests)
    redis.call('HINCRBY', window, 't', 0 - tokens)
    freed = true
  end
end

local wait, all_held = 0, held
if most_held > 0 then
  for _, silent in ipairs(redis.call('ZRANGEBYSCORE', base .. ':holders', '-inf', text(now))) do
    redis.call('ZREM', base .. ':holders', silent)
    redis.call('HDEL', base .. ':held', silent)
  end
  local others = redis.call('HGETALL', base .. ':held')
  for i = 1, #others, 2 do
    if others[i] ~= worker then
      all_held = all_held + tonumber(string.match(others[i + 1], '^%d+'))
    end
  end
end

local used = redis.call('HMGET', window, 'r', 't')
local requests, tokens = tonumber(used[1] or 0), tonumber(used[2] or 0)
local has_extra = (extra <= 0 or most_tokens == 0 or tokens + extra <= most_tokens)
  and (more <= 0 or most_requests == 0 or requests + more <= most_requests)
local taken_requests, taken_tokens = 0, 0
if has_extra then
  taken_requests, taken_tokens = math.max(more, 0), math.max(extra, 0)
  requests, tokens = requests + taken_requests, tokens + taken_tokens
end

local granted = wanted
if most_held > 0 then
  granted = math.min(granted, most_held - all_held)
end
if most_requests > 0 then
  granted = math.min(granted, most_requests - requests)
end
if most_tokens > 0 and each > 0 then
  granted = math.min(granted, math.floor((most_tokens - tokens) / each))
end
granted = math.max(granted, 0)
taken_requests, taken_tokens = taken_requests + granted, taken_tokens + granted * each
if taken_requests > 0 or taken_tokens > 0 then
  redis.call('HINCRBY', window, 'r' .. quarter, taken_requests)
  redis.call('HINCRBY', window, 't' .. quarter, whole(taken_tokens))
  redis.call('HINCRBY', window, 'r', taken_requests)
  redis.call('HINCRBY', window, 't', whole(taken_tokens))
end

-- When so much will have left the window that one more request finds room.
local function room_after(requests_short, tokens_short)
  for from = oldest, quarter, 40 do
    local names = {}
    for at = from, math.min(from + 39, quarter) do
      names[#names + 1] = 'r' .. at
      names[#names + 1] = 't' .. at
    end
    local values = redis.call('HMGET', window, unpack(names))
    for i = 1, #values, 2 do
      requests_short, tokens_short = requests_short - (values[i] or 0), tokens_short - (values[i + 1] or 0)
      if requests_short <= 0 and tokens_short <= 0 then
        return (from + (i - 1) / 2 + QUARTERS + 1) * QUARTER_MS - now
      end
    end
  end
  return QUARTERS * QUARTER_MS
end

if granted < wanted or not has_extra then
  redis.call('HSET', window, 'waiting', 1)
  local requests_short = most_requests > 0 and requests + granted + (has_extra and 1 or more) - most_requests or 0
  local tokens_short = most_tokens > 0 and tokens + granted * each + (has_extra and each or extra) - most_tokens or 0
  if requests_short > 0 or tokens_short > 0 then
    wait = room_after(requests_short, tokens_short)
  end
  if most_held > 0 and all_held + granted >= most_held then
    -- Whoever gives a permit back rings; of one that died, the permits end by themselves.
    draw_near(':holders', now + lasts, 1000)
    local first = redis.call('ZRANGE', base .. ':holders', 0, 0, 'WITHSCORES')
    wait = math.max(wait, first[2] and first[2] - now or 0)
  end
  wait = math.max(wait, 1)
elseif freed and redis.call('HDEL', window, 'waiting') == 1 then
  tell_workers()
end

local now_held = held + granted
local reply = { granted, has_extra and 1 or 0, quarter, math.ceil(wait) }
redis.call('HSET', base .. ':held', worker, whole(now_held) .. ' ' .. number .. ' ' .. table.concat(reply, ' '))
redis.call('ZADD', base .. ':holders', whole(now + lasts), worker)
redis.call('PEXPIRE', base .. ':held', KEPT_MS)
redis.call('PEXPIRE', base .. ':holders', KEPT_MS)
return reply
