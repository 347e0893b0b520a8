-- Put a manifest in force, unless a newer one is there already, or a newer owner has announced itself.
-- KEYS 1 manifest  2 epoch  3 ... blobs that it names   ARGV 1 manifest (JSON)  2 version  3 owner epoch  4 channel
local epoch = tonumber(ARGV[3])
if (tonumber(redis.call('GET', KEYS[2])) or 0) > epoch then return 0 end
local now = redis.call('GET', KEYS[1])
if now then
  local held = cjson.decode(now)
  if held.epoch > epoch or held.version >= tonumber(ARGV[2]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1])
for at = 3, #KEYS do redis.call('PERSIST', KEYS[at]) end
redis.call('PUBLISH', ARGV[4], ARGV[1])
return 1
