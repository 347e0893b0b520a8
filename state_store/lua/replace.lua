-- Replace a string, also in a full Redis: SET is refused there, but not behind a DEL.
-- KEYS 1 string   ARGV 1 value
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1])
return 1
