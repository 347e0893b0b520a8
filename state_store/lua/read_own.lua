-- Sub-counters of items in one partition, for the roll-up.
-- KEYS 1 dirty (for its slot)   ARGV 1 item key prefix  2 fields (msgpack)  3 items (msgpack)
-- Returns their counters, flat and in order
local fields, values = cmsgpack.unpack(ARGV[2]), {}
for _, id in ipairs(cmsgpack.unpack(ARGV[3])) do
  for _, v in ipairs(redis.call('HMGET', ARGV[1] .. id, unpack(fields))) do
    values[#values + 1] = tonumber(v) or 0
  end
end
return values
