-- provider_status: reads all that is known of one provider; changes nothing.
-- KEYS[1] overshot:{provider:<name>}
-- ARGV none
-- Returns { now, facts, circuits, jobs in flight, requests and tokens of the last minute, { model whose turn it is, workers that
--   use it, model that is promised the next, '' where there is none } }
-- Atomic because the numbers belong together.
local first = quarter - QUARTERS
local window = redis.call('HGETALL', base .. ':window')
local requests, tokens = 0, 0
for i = 1, #window, 2 do
  local kind, at = string.match(window[i], '^([rt])(%d+)$')
  if kind and tonumber(at) >= first and tonumber(at) <= quarter then
    if kind == 'r' then
      requests = requests + window[i + 1]
    else
      tokens = tokens + window[i + 1]
    end
  end
end
local in_flight = 0
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', base .. ':holders', '(' .. text(now), '+inf')) do
  in_flight = in_flight + tonumber(string.match(redis.call('HGET', base .. ':held', worker) or '0', '^%d+'))
end
local turn = redis.call('HMGET', base .. ':turn', 'model', 'next', 'next_until')
local promised = tonumber(turn[3] or 0) > now and turn[2] or ''
return {
  text(now),
  redis.call('HGETALL', base .. ':facts'),
  redis.call('HGETALL', base .. ':circuits'),
  in_flight,
  math.max(requests, 0),
  string.format('%.0f', math.max(tokens, 0)),
  { turn[1] or '', redis.call('ZCOUNT', base .. ':users', '(' .. text(now), '+inf'), promised },
}
