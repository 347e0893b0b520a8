-- Replace a string if it is what it is taken for; also in a full Redis: SET is refused there, but not behind a DEL.
-- KEYS 1 string   ARGV 1 what it is taken for (empty: not there)  2 new value
-- Returns 1; 0: it is something else
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[2])
return 1
