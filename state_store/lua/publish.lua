-- Put a manifest in force, unless a newer one, or one of a newer owner, is there already.
-- KEYS 1 manifest   ARGV 1 manifest (JSON)  2 version  3 owner epoch  4 channel
local now = redis.call('GET', KEYS[1])
if now then
  local held = cjson.decode(now)
  if held.epoch > tonumber(ARGV[3]) or held.version >= tonumber(ARGV[2]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[4], ARGV[1])
return 1
