-- Sums of items' counters over the other partitions. Counters only grow, so the greater value is the newer one, and
-- two workers that roll up the same item at once cannot undo each other.
-- KEYS 1 dirty (for its slot)   ARGV 1 item key prefix  2 fields (msgpack)  3 {item, value, ...} (msgpack)  4 ttl, s
local fields, rows = cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3])
local width, asked = #fields, {unpack(fields)}
asked[width + 1] = 'renewed'
-- A life is given anew once in a sixteenth of it, as `apply` does.
local ttl_s = tonumber(ARGV[4])
local sixteenth = math.ceil(ttl_s / 16)
local now_in = math.floor(tonumber(redis.call('TIME')[1]) / sixteenth)
for at = 1, #rows, width + 1 do
  local key = ARGV[1] .. rows[at]
  local old, values = redis.call('HMGET', key, unpack(asked)), {}
  for i = 1, width do
    local new = rows[at + i]
    if new > (tonumber(old[i]) or 0) then values[#values + 1], values[#values + 2] = fields[i], new end
  end
  if #values > 0 then
    local is_due = tonumber(old[width + 1]) ~= now_in
    if is_due then values[#values + 1], values[#values + 2] = 'renewed', now_in end
    redis.call('HSET', key, unpack(values))
    if is_due then redis.call('EXPIRE', key, ttl_s + sixteenth) end
  end
end
return #rows
