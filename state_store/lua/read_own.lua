-- Sub-counters of items in one partition, for the roll-up.
-- KEYS 1 dirty   ARGV 1 item key prefix  2 fields (msgpack)  3 items (msgpack); nil: take and clear the dirty set
-- Returns {items, their counters, flat and in order}
local items
if ARGV[3] then
  items = cmsgpack.unpack(ARGV[3])
else
  items = redis.call('SMEMBERS', KEYS[1])
  redis.call('DEL', KEYS[1])
end
local fields, values = cmsgpack.unpack(ARGV[2]), {}
for _, id in ipairs(items) do
  for _, v in ipairs(redis.call('HMGET', ARGV[1] .. id, unpack(fields))) do
    values[#values + 1] = tonumber(v) or 0
  end
end
return {items, values}
