-- Say which weights are kept, unless a newer owner has announced itself.
-- KEYS 1 list  2 epoch   ARGV 1 list (JSON)  2 owner epoch
-- Returns 1; 0: a newer owner
if (tonumber(redis.call('GET', KEYS[2])) or 0) > tonumber(ARGV[2]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1])
return 1
