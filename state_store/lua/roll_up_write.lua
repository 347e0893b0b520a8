-- Sums of items' counters over the other partitions, beside a partition's own. Counters only grow, so the greater value
-- is the newer one. They are compared with what stands there where another roll-up has written since this one began to
-- read, so that two at once cannot undo each other.
-- KEYS 1 fence   ARGV 1 item key prefix  2 fields (msgpack)  3 items (msgpack)  4 values, flat and in order (msgpack)
--      5 ttl, s  6 how often roll-ups had written there before the first counter was read
local prefix, fields, items, values = ARGV[1], cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3]), cmsgpack.unpack(ARGV[4])
local width, call, written = #fields, redis.call, {}
local is_alone = (tonumber(call('HGET', KEYS[1], 'rolls')) or 0) == tonumber(ARGV[6])
-- As long as one that `apply` writes lives at most.
local ttl_s = tonumber(ARGV[5])
local life_s = ttl_s + math.ceil(ttl_s / 16)

for n, id in ipairs(items) do
  local key, at = prefix .. id, (n - 1) * width
  local old = is_alone or call('HMGET', key, unpack(fields))
  for i = 1, width do
    local new = values[at + i]
    written[2 * i - 1], written[2 * i] = fields[i], is_alone and new or math.max(new, tonumber(old[i]) or 0)
  end
  call('HSET', key, unpack(written, 1, 2 * width))
  call('EXPIRE', key, life_s)
end
return call('HINCRBY', KEYS[1], 'rolls', 1)
