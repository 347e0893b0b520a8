
-- Write back ----------------------------------------------------------------------------------------------------

write_behind(held_by_id, pack_held)
write_behind(waiting_by_id, pack)

-- Counters that have not changed stay as they are.
local function write_entity(key, state, values, ttl_s)
  for i = 1, num_actions + 1 do
    if state.changed[i] then values[#values + 1], values[#values + 2] = user_fields[i], state.own[i] end
  end
  if #values == 0 then return false end
  call('HSET', key, unpack_all(values))
  call('EXPIRE', key, ttl_s)
  return true
end

for id, s in pairs(users) do
  local values = {}
  if s.is_earlier then values[1], values[2] = 'first_ts', s.first_ts end
  if s.is_later then values[#values + 1], values[#values + 2] = 'last_ts', s.last_ts end
  for h in pairs(s.remembered or {}) do
    values[#values + 1], values[#values + 2] = histories[h].field, s.histories[h]
  end
  write_entity(user_prefix .. id, s, values, options.user_ttl_s)
end
local changed = {}
for id, s in pairs(items) do
  if write_entity(item_prefix .. id, s, {}, options.item_ttl_s) then changed[#changed + 1] = id end
end
each_call('SADD', dirty, changed)

local function add_entry(n, head, ...)
  seq = seq + n
  call('XADD', outbox, string.format('%.0f-0', seq), 's', concat({head, ...}))
end
if #former > 0 then add_entry(#former, '\221' .. pack_bytes('>I4', #former), concat(former)) end
for _, tag in ipairs(tags) do
  local of = columns[tag]
  local head = pack_bytes('<c4I4I4I4I4', 'CSC1', tag, #of.rows, of.text_size, of.keys_size)
  if tag == options.history_tag then
    head = pack_bytes('<c4I4I4I4I4I4', 'CSC2', tag, #of.rows, of.text_size, of.keys_size, of.history_size)
  end
  add_entry(#of.rows, head, concat(of.texts), concat(of.keys), concat(of.histories), concat(of.rows))
end

local values = {'epoch', epoch, 'seq', seq}
if watermark then values[5], values[6] = 'watermark', watermark end
local outcome = 'OK'
if not tick then
  local function put(name, value)
    if value then values[#values + 1], values[#values + 2] = name .. topic, value end
  end
  put('offset:', last)
  put('max_ts:', clock.top)
  put('moved:', clock.moved)
  put('claims:', #clock.claims.users > 0 and pack_claims(clock.claims))
  put('seen:', now)
  local lost = tonumber(ARGV[13])
  if lost > 0 then
    outcome = 'GAP'
    count('gap', lost)
  end
  local misplaced = tonumber(ARGV[14])
  if misplaced > 0 then count('misplaced', misplaced) end
end
call('HSET', fence, unpack_all(values))
for name, k in pairs(counts) do call('HINCRBY', fence, 'n:' .. name, k) end
return {outcome, tick and offset or last, seq, learned, more, epoch}
