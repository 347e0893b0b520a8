
-- Fence ---------------------------------------------------------------------------------------------------------

local fence_fields = {'epoch', 'offset:' .. topic, 'seq', 'watermark', 'arrivals'}
for _, name in ipairs(topics) do
  for _, field in ipairs({'max_ts:', 'claims:', 'moved:', 'seen:'}) do fence_fields[#fence_fields + 1] = field .. name end
end
local stored = call('HMGET', fence, unpack_all(fence_fields))
local stored_epoch = tonumber(stored[1]) or 0
local offset = tonumber(stored[2]) or -1
local seq = tonumber(stored[3]) or 0
local watermark = tonumber(stored[4]) or false
local num_arrivals = tonumber(stored[5]) or 0
local learned = tonumber(call('GET', KEYS[8])) or 0
local tick = first > last
if epoch < stored_epoch then return {'ZOMBIE', offset, seq, learned, 0, stored_epoch} end
if offset < tonumber(ARGV[12]) then return {'ROLLBACK', offset, seq, learned, 0, stored_epoch} end
if not tick then
  if last <= offset then return {'DUP', offset, seq, learned, 0, stored_epoch} end
  if first <= offset then return {'OVERLAP', offset, seq, learned, 0, stored_epoch} end
  if stored[2] and first > offset + 1 then return {'HOLE', offset, seq, learned, 0, stored_epoch} end
end

-- Counters of the join, written with the fence, so they count each record once ------------------------------------

local counts = {}
local function count(name, n) counts[name] = (counts[name] or 0) + (n or 1) end
