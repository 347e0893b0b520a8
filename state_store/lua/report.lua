-- Report how far training has come, unless this Redis knows less than was reported before: then it is an older one.
-- KEYS 1 learned   ARGV 1 sequence reported last  2 sequence now
if (tonumber(redis.call('GET', KEYS[1])) or 0) < tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
