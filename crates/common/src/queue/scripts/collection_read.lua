-- collection_read: one page of a collection.
-- ARGV[1] id to begin after, or ''   ARGV[2] most ids
-- Returns { model, time of the last completion (ms) or '', how many ids, ids, vectors, 1 there are more }, or nothing
-- Atomic because an id and its vector must belong together.
local name = KEYS[1]
local meta = redis.call('HMGET', name, 'gen', 'model', 'updated')
if not meta[1] then
  return {}
end
local data, most = name .. ':' .. meta[1], tonumber(ARGV[2])
local from = ARGV[1] == '' and '-' or '(' .. ARGV[1]
local ids = redis.call('ZRANGEBYLEX', data .. ':ids', from, '+', 'LIMIT', 0, most + 1)
local more = #ids > most and 1 or 0
ids[most + 1] = nil
local vectors = #ids > 0 and redis.call('HMGET', data .. ':vectors', unpack(ids)) or {}
return { meta[2] or '', meta[3] or '', redis.call('ZCARD', data .. ':ids'), ids, vectors, more }
