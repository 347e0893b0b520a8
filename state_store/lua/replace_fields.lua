-- Put a merged value in the place of two fields of a hash, at once, so that no reader sees both or neither.
-- KEYS 1 hash   ARGV 1 field that goes  2 field that stays  3 its new value
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return 1
