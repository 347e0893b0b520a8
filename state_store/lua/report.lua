-- Report how far training has come, unless another learner has taken over, or this Redis knows less than was reported
-- before: then it is an older one.
-- KEYS 1 learned  2 owner   ARGV 1 sequence reported last  2 sequence now  3 owner's number (0: none)
-- Returns 1; 0: an older Redis; -1: another owner
local mine, owner = tonumber(ARGV[3]), tonumber(redis.call('GET', KEYS[2])) or 0
if mine > 0 and owner > mine then return -1 end
if (tonumber(redis.call('GET', KEYS[1])) or 0) < tonumber(ARGV[1]) then return 0 end
-- A full Redis refuses SET, but not behind a DEL: the value that comes is no longer than the one that goes.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[2])
if mine > owner then redis.call('SET', KEYS[2], ARGV[3]) end
return 1
