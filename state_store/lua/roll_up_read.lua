-- Items' own counters in one partition.
-- KEYS 1 fence   ARGV 1 item key prefix  2 fields (msgpack)  3 items (msgpack)
-- Returns the counters, flat and in order
local prefix, fields, values, n = ARGV[1], cmsgpack.unpack(ARGV[2]), {}, 0
local width, call = #fields, redis.call
for _, id in ipairs(cmsgpack.unpack(ARGV[3])) do
  local found = call('HMGET', prefix .. id, unpack(fields))
  for i = 1, width do values[n + i] = tonumber(found[i]) or 0 end
  n = n + width
end
return values
