-- The state of one user and of items, as of now, packed: little-endian doubles, so that a client reads it as arrays.
-- KEYS 1 user   ARGV 1 prefix of the items' keys, of the user's partition  2 item ids (msgpack)  3 counted (msgpack)
--               4 fields of histories (msgpack)
-- Returns the user's row: counts, norm, norm version, first and last event time, bytes of each history; then of each
-- item: counts over all partitions, norm, norm version; then the histories, as they are kept. What was never seen is
-- zeros.
local ids, names, histories = cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3]), cmsgpack.unpack(ARGV[4])
local n = #names
local user_fields, item_fields = {}, {}
for i = 1, n do
  user_fields[i], item_fields[i], item_fields[n + i] = names[i], names[i], 'other:' .. names[i]
end
for i, name in ipairs({'norm', 'norm_version', 'first_ts', 'last_ts'}) do user_fields[n + i] = name end
item_fields[2 * n + 1], item_fields[2 * n + 2] = 'norm', 'norm_version'
for i, field in ipairs(histories) do user_fields[n + 4 + i] = field end

local call, pack = redis.call, struct.pack
local v = call('HMGET', KEYS[1], unpack(user_fields))
for i = 1, n + 4 do v[i] = tonumber(v[i]) or 0 end
local kept = {}
for i = 1, #histories do kept[i], v[n + 4 + i] = v[n + 4 + i] or '', #(v[n + 4 + i] or '') end
local parts = {pack('<' .. string.rep('d', n + 4 + #histories), unpack(v))}

local row = '<' .. string.rep('d', n + 2)
local nothing = string.rep('\0', 8 * (n + 2))
for at, id in ipairs(ids) do
  local found = call('HMGET', ARGV[1] .. id, unpack(item_fields))
  local is_known = false
  for i = 1, 2 * n + 2 do is_known = is_known or found[i] end
  if is_known then
    local of = {}
    for i = 1, n do of[i] = (tonumber(found[i]) or 0) + (tonumber(found[n + i]) or 0) end
    of[n + 1], of[n + 2] = tonumber(found[2 * n + 1]) or 0, tonumber(found[2 * n + 2]) or 0
    parts[at + 1] = pack(row, unpack(of))
  else
    parts[at + 1] = nothing
  end
end
return table.concat(parts) .. table.concat(kept)
