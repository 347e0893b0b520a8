-- The next number of a counter, at least ARGV[1]; also in a full Redis, which refuses INCR.
-- KEYS 1 counter   ARGV 1 least number
local number = math.max((tonumber(redis.call('GET', KEYS[1])) or 0) + 1, tonumber(ARGV[1]))
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], string.format('%.0f', number))
return number
