
-- Write back ----------------------------------------------------------------------------------------------------

for id, s in pairs(users) do
  local values = {'first_ts', s.first_ts, 'last_ts', s.last_ts, 'impressions', s.own[1]}
  for i = 1, num_actions do
    values[#values + 1] = actions[i]
    values[#values + 1] = s.own[i + 1]
  end
  call('HSET', user_prefix .. id, unpack_all(values))
  call('EXPIRE', user_prefix .. id, options.user_ttl_s)
end
local changed = {}
for id, s in pairs(items) do
  if s.changed then
    local values = {'impressions', s.own[1]}
    for i = 1, num_actions do
      values[#values + 1] = actions[i]
      values[#values + 1] = s.own[i + 1]
    end
    call('HSET', item_prefix .. id, unpack_all(values))
    call('EXPIRE', item_prefix .. id, options.item_ttl_s)
    changed[#changed + 1] = id
  end
end
for i = 1, #changed, 4000 do call('SADD', dirty, unpack_all(changed, i, math.min(i + 3999, #changed))) end

local function add_entry(n, head, ...)
  seq = seq + n
  call('XADD', outbox, string.format('%.0f-0', seq), 's', table.concat({head, ...}))
end
if #former > 0 then add_entry(#former, '\221' .. struct.pack('>I4', #former), table.concat(former)) end
for _, tag in ipairs(tags) do
  local of = columns[tag]
  add_entry(#of.rows, struct.pack('<c4I4I4I4I4', 'CSC1', tag, #of.rows, of.text_size, of.keys_size),
    table.concat(of.texts), table.concat(of.keys), table.concat(of.rows))
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
