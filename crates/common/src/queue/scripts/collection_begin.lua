-- collection_begin: opens a pass of a job over a collection.
-- ARGV[1] space of the job's vectors   ARGV[2] model, or ''
-- Returns { epoch, generation, pass }, all of which its writes must name
-- Atomic because two jobs may begin at once: each gets a pass of its own.
-- Vectors of another space cannot stand beside those that are there: they go into a generation of their own, which takes the
-- place of the old one when the job completes.
local name = KEYS[1]
local meta = redis.call('HMGET', name, 'epoch', 'space', 'gen', 'next_space', 'next_gen')
local generation
if meta[2] == ARGV[1] then
  generation = meta[3]
elseif meta[4] == ARGV[1] then
  generation = meta[5]
else
  generation = tostring(redis.call('HINCRBY', name, 'gens', 1))
  if not meta[2] then
    redis.call('HSET', name, 'space', ARGV[1], 'gen', generation, 'model', ARGV[2])
  else
    if meta[5] then
      drop_generation(name, meta[5])
    end
    redis.call('HSET', name, 'next_space', ARGV[1], 'next_gen', generation)
  end
end
return { meta[1] or '0', generation, tostring(redis.call('HINCRBY', name, 'passes', 1)) }
