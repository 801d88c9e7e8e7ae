-- test_clock: stands in for clock.lua in tests that own the time; Unix time in ms.
local now = tonumber(redis.call('GET', KEYS[1] .. ':test-clock'))
