-- Sums of items' counters over the other partitions. Counters only grow, so the greater value is the newer one, and
-- two workers that roll up the same item at once cannot undo each other.
-- KEYS 1 dirty (for its slot)   ARGV 1 item key prefix  2 fields (msgpack)  3 {item, value, ...} (msgpack)  4 ttl, s
local fields, rows = cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3])
for at = 1, #rows, #fields + 1 do
  local key = ARGV[1] .. rows[at]
  local old, values = redis.call('HMGET', key, unpack(fields)), {}
  for i, name in ipairs(fields) do
    local new = rows[at + i]
    if new > (tonumber(old[i]) or 0) then
      values[#values + 1] = name
      values[#values + 1] = new
    end
  end
  if #values > 0 then
    redis.call('HSET', key, unpack(values))
    redis.call('EXPIRE', key, ARGV[4])
  end
end
return #rows
