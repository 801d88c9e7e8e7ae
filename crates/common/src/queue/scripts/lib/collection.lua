-- collection: the layout of a collection's keys, which have a slot of their own.
--
-- KEYS[1] is overshot:collection:{<name>}, a hash: epoch, completions so far; gen and space, the generation that is read and
-- what its vectors have in common; next_gen and next_space, one that a job is building to take its place; length<gen>, bytes
-- of a vector; model; updated; gens and passes, counters.
--   :<gen>:ids  ids in order   :<gen>:keys  what each was made of   :<gen>:vectors  packed   :<gen>:seen  ids by their last pass
local function drop_generation(name, generation)
  local data = name .. ':' .. generation
  redis.call('UNLINK', data .. ':ids', data .. ':keys', data .. ':vectors', data .. ':seen')
  redis.call('HDEL', name, 'length' .. generation)
end

-- Whether a pass may still write: none has completed since it began, and its generation is there.
local function pass_holds(name, epoch, generation)
  local meta = redis.call('HMGET', name, 'epoch', 'gen', 'next_gen')
  return (meta[1] or '0') == epoch and (meta[2] == generation or meta[3] == generation)
end
