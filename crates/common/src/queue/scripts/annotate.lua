-- annotate: merges pairs into a job's metadata, in any status.
-- ARGV[1] id   ARGV[2] most pairs   then name, value (or name, '' and 1 in third place to remove): triples name, value, remove
-- Returns { 0 } unknown, { 1, watched ids } merged, { 2 } too many pairs
-- Atomic because two callers may merge at once.
local id, name = ARGV[1], RECORD .. ARGV[1]
local job = load(id)
if not job then
  return { 0 }
end
local pairs_by_name = cjson.decode(redis.call('HGET', name, 'd') or '{}')
for i = 3, #ARGV, 3 do
  pairs_by_name[ARGV[i]] = ARGV[i + 2] == '0' and ARGV[i + 1] or nil
end
local total = 0
for _ in pairs(pairs_by_name) do
  total = total + 1
end
if total > tonumber(ARGV[2]) then
  return { 2 }
end
redis.call('HSET', name, 'd', total == 0 and '{}' or cjson.encode(pairs_by_name))
save(id, job)
return { 1, watched({ id }) }
