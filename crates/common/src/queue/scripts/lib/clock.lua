-- clock: the one clock that decides leases, due times and deadlines. Unix time in ms.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
