-- What a worker that joins in its own memory lacks: the fence, what is due next, users, items, impressions.
--
-- KEYS  1 fence  2 pending  3 due  4 learned  5 bodies  6 labels  7 arrivals
-- ARGV  1 user key prefix  2 item key prefix  3 msgpack of {fence = fields, most_due = how many, users = ids, user_fields,
--       items = ids, item_fields, bodies = ids, labels = ids, arrivals = fields, numbers = how many fields of a user are
--       numbers; the others are histories}
-- Returns {fence, learned, whether something is pending, seconds of the clock, due with scores, users, items, bodies,
--   labels, arrivals}; of the last three nothing where nothing is there. Users: a row of doubles each, numbers and sizes
--   of histories, then the histories, all in one string. Items: rows of doubles. NaN is what is not there.
local call, pack, NAN = redis.call, struct.pack, 0 / 0
local asked = cmsgpack.unpack(ARGV[3])

-- Nothing where nothing is there, as is so of nearly all impressions that come.
local function several(key, ids)
  local found, n, is_any = {}, 0, false
  for from = 1, #ids, 4000 do
    for _, value in ipairs(call('HMGET', key, unpack(ids, from, math.min(from + 3999, #ids)))) do
      n = n + 1
      found[n] = value
      is_any = is_any or value
    end
  end
  return is_any and found or {}
end

local function numbers(found, from, to)
  for i = from, to do found[i] = tonumber(found[i]) or NAN end
end

local user_fields, num_numbers, rows, kept = asked.user_fields, asked.numbers, {}, {}
local row = '<' .. string.rep('d', #user_fields)
for n, id in ipairs(asked.users) do
  local found = call('HMGET', ARGV[1] .. id, unpack(user_fields))
  numbers(found, 1, num_numbers)
  for i = num_numbers + 1, #user_fields do
    kept[#kept + 1] = found[i] or ''
    found[i] = found[i] and #found[i] or NAN
  end
  rows[n] = pack(row, unpack(found))
end
local users = table.concat(rows) .. table.concat(kept)

rows, row = {}, '<' .. string.rep('d', #asked.item_fields)
for n, id in ipairs(asked.items) do
  local found = call('HMGET', ARGV[2] .. id, unpack(asked.item_fields))
  numbers(found, 1, #found)
  rows[n] = pack(row, unpack(found))
end

return {
  call('HMGET', KEYS[1], unpack(asked.fence)),
  tonumber(call('GET', KEYS[4]) or 0),
  call('EXISTS', KEYS[2]),
  tonumber(call('TIME')[1]),
  asked.most_due > 0 and call('ZRANGE', KEYS[3], 0, asked.most_due - 1, 'WITHSCORES') or {},
  users,
  table.concat(rows),
  several(KEYS[5], asked.bodies),
  several(KEYS[6], asked.labels),
  several(KEYS[7], asked.arrivals),
}
