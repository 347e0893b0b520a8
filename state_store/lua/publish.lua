-- Put a manifest in force, unless a newer one is there already, or a newer owner has announced itself.
-- KEYS 1 manifest  2 epoch  3 set of chunks that stay  4 ... chunks that are to stay
-- ARGV 1 manifest (JSON)  2 version  3 owner epoch  4 channel  5 ... names of the chunks
-- Returns 1; 0: it is an older one; -1: a chunk is gone
local epoch = tonumber(ARGV[3])
if (tonumber(redis.call('GET', KEYS[2])) or 0) > epoch then return 0 end
local now = redis.call('GET', KEYS[1])
if now then
  local held = cjson.decode(now)
  if held.epoch > epoch or held.version >= tonumber(ARGV[2]) then return 0 end
end
for at = 4, #KEYS do
  if redis.call('EXISTS', KEYS[at]) == 0 then return -1 end
end
-- First what Redis may refuse where it is full, before anything is changed.
redis.call('SET', KEYS[1], ARGV[1])
for at = 4, #KEYS do
  redis.call('SADD', KEYS[3], ARGV[at + 1])
  redis.call('PERSIST', KEYS[at])
end
redis.call('PUBLISH', ARGV[4], ARGV[1])
return 1
