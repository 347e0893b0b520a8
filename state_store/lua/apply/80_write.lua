
-- Write back ----------------------------------------------------------------------------------------------------

if made_arrivals then made_arrivals.write() end
write_held()
write_waiting()

-- What has not changed stays as it is. A life lasts a sixteenth longer than it is to, and is given anew once in that.
local clock_s
local written = {} -- one entity's after another's
local function write_entity(key, fields, state, ttl_s)
  local n, last, is_changed = 0, #fields, state.changed
  for i = 1, last - 1 do
    if is_changed[i] then
      written[n + 1], written[n + 2] = fields[i], state[i]
      n = n + 2
    end
  end
  if state.remembered then
    for h in pairs(state.remembered) do
      written[n + 1], written[n + 2] = histories[h].field, cut_history(state.histories[h], histories[h].kept)
      n = n + 2
    end
  end
  if n == 0 then return false end
  clock_s = clock_s or tonumber(call('TIME')[1])
  local sixteenth = math.ceil(ttl_s / 16)
  local now_in = floor(clock_s / sixteenth)
  local is_due = state[last] ~= now_in
  if is_due then
    written[n + 1], written[n + 2] = fields[last], now_in
    n = n + 2
  end
  call('HSET', key, unpack_all(written, 1, n))
  if is_due then call('EXPIRE', key, ttl_s + sixteenth) end
  return true
end

for id, state in pairs(users) do write_entity(user_prefix .. id, user_fields, state, options.user_ttl_s) end
local changed = {}
for id, state in pairs(items) do
  if write_entity(item_prefix .. id, item_fields, state, options.item_ttl_s) then changed[#changed + 1] = id end
end
each_call('SADD', dirty, changed)

local function add_entry(n, head, ...)
  seq = seq + n
  call('XADD', outbox, string.format('%.0f-0', seq), 's', concat({head, ...}))
end
if #former > 0 then add_entry(#former, '\221' .. pack_bytes('>I4', #former), concat(former)) end
for _, tag in ipairs(tags) do
  local of = columns[tag]
  local text, keys, entries, head = concat(of.texts), concat(of.keys), '', nil
  if tag == options.history_tag then
    local size
    entries, size = join_views(of.rows, of.carried, of.n)
    head = pack_bytes('<c4I4I4I4I4I4', 'CSC3', tag, of.n, of.text_size, of.keys_size, size)
  else
    head = pack_bytes('<c4I4I4I4I4', 'CSC1', tag, of.n, of.text_size, of.keys_size)
  end
  add_entry(of.n, head, text, keys, entries, concat(of.rows))
end

local values = {'epoch', epoch, 'seq', seq}
if watermark then values[5], values[6] = 'watermark', watermark end
if num_arrivals > 0 then values[#values + 1], values[#values + 2] = 'arrivals', num_arrivals end
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
end

return apply()
