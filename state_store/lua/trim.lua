-- Drop samples that are learned for good, unless another learner has taken over.
-- KEYS 1 outbox  2 owner   ARGV 1 first sequence that stays  2 owner's number (0: none)
-- Returns 1; -1: another owner
local mine = tonumber(ARGV[2])
if mine > 0 and (tonumber(redis.call('GET', KEYS[2])) or 0) > mine then return -1 end
redis.call('XTRIM', KEYS[1], 'MINID', ARGV[1] .. '-0')
return 1
