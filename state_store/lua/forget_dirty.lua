-- Items whose sub-counters are rolled up: no longer dirty, unless they have changed since they were read. So whatever
-- ends a roll-up half-way, and however many run at once, each change is rolled up by one that read it.
-- KEYS 1 dirty   ARGV 1 item key prefix  2 fields (msgpack)  3 {item, sub-counter, ...} (msgpack)
local fields, rows, settled = cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3]), {}
for at = 1, #rows, #fields + 1 do
  local same = true
  for i, v in ipairs(redis.call('HMGET', ARGV[1] .. rows[at], unpack(fields))) do
    same = same and (tonumber(v) or 0) == rows[at + i]
  end
  if same then settled[#settled + 1] = rows[at] end
end
local most = 4000 -- Lua puts no more than some 8,000 arguments on its stack
for from = 1, #settled, most do redis.call('SREM', KEYS[1], unpack(settled, from, math.min(from + most - 1, #settled))) end
return 1
