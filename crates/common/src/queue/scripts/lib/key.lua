-- key: a due job takes its concurrency key, waits for it, or has it freed.

-- How long the holder of a running job may take to confirm a cancel, ms.
local PATIENCE = 5000

-- Cancels one job, waiting or running; a running one is only asked to stop. Tells what it did, see cancel.lua.
local function cancel(id, job)
  if job[STATUS] == CANCELLED then
    return 3
  elseif job[STATUS] >= DONE then
    return 4
  elseif job[STATUS] == RUNNING then
    if job[CANCEL_AT] == 0 then
      job[CANCEL_AT] = now
      redis.call('ZADD', base .. ':cancels', now + PATIENCE, id)
      save(id, job)
      touched[#touched + 1] = id
    end
    -- Never sharded: the worker listens at one node, whichever it is.
    redis.call('PUBLISH', 'overshot:worker:' .. job[WORKER], 'cancel ' .. id_prefix() .. id)
    return 2
  end
  withdraw(id, job)
  finish(id, job, CANCELLED, '{"code":"cancelled","message":"cancelled while it waited"}', '')
  return 1
end

-- Queues a due job, or blocks it behind the holder of its key. With on_conflict `replace`, the holder and all that wait are cancelled.
local function enter(id, job)
  if job[KEYED] == 1 then
    local holder, held = holder_of(job[KEY])
    if holder and holder ~= id then
      if job[CONFLICT] == 3 then
        for _, waiter in ipairs(redis.call('ZRANGE', base .. ':kw:' .. job[KEY], 0, -1)) do
          local waiting = load(waiter)
          if waiting and waiting[STATUS] == BLOCKED then
            cancel(waiter, waiting)
          end
        end
        cancel(holder, held)
        holder = holder_of(job[KEY])
      end
      if holder then
        return block(id, job)
      end
    end
    redis.call('SET', base .. ':k:' .. job[KEY], id)
  end
  if job[STATUS] ~= RETRYING then
    job[STATUS] = QUEUED
  end
  push(id, job)
end
