-- Take the lease on a pipeline, or hold it for longer, if nobody else has it, or somebody who is known to be dead.
-- KEYS 1 lease   ARGV 1 own value (JSON)  2 folder whose former holder is dead ('': none)  3 expiry, ms
-- Returns the value of another holder, who keeps it, or false
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] and (ARGV[2] == '' or cjson.decode(held).folder ~= ARGV[2]) then return held end
-- Behind a DEL a full Redis takes it.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return false
