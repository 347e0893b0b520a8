-- What is held, waits and is due: read ahead, written behind -----------------------------------------------------
--
-- A call from a script costs more than most commands do. So what a batch concerns is read in one call per kind, kept
-- here while records and deadlines are handled, and written in one call per kind at the end.

local MOST = 4000 -- fields of one call: Lua puts no more than some 8,000 arguments on its stack

-- Of the impressions that records are, or are feedback to; others have none.
local function imps_of(records)
  local imps = {}
  for _, r in ipairs(records) do imps[#imps + 1] = r[4] end
  return imps
end

-- A hash of which fields are read ahead. `of[id]`: its value, false if there is none, nil if it was not read yet.
local function read_behind(key)
  return {key = key, of = {}, changed = {}, is_changed = {}}
end

local function read_ahead(hash, ids)
  for from = 1, #ids, MOST do
    local to = math.min(from + MOST - 1, #ids)
    local values = call('HMGET', hash.key, unpack_all(ids, from, to))
    for n = from, to do
      if hash.of[ids[n]] == nil then hash.of[ids[n]] = values[n - from + 1] end
    end
  end
end

-- As `parse` makes it of what is stored; false if there is none.
local function kept(hash, id, parse)
  local value = hash.of[id]
  if value == nil then value = call('HGET', hash.key, id) end
  if type(value) == 'string' then value = parse(value) end
  hash.of[id] = value
  return value
end

-- `value` false: there is none any more.
local function keep(hash, id, value)
  hash.of[id] = value
  if hash.is_changed[id] then return end
  hash.is_changed[id] = true
  hash.changed[#hash.changed + 1] = id
end

local function each_call(name, key, arguments)
  for from = 1, #arguments, MOST do call(name, key, unpack_all(arguments, from, math.min(from + MOST - 1, #arguments))) end
end

-- What is gone first, as a Redis that is full takes that.
local function write_behind(hash, render)
  local gone, written = {}, {}
  for _, id in ipairs(hash.changed) do
    local value = hash.of[id]
    if value then written[#written + 1], written[#written + 2] = id, render(value) else gone[#gone + 1] = id end
  end
  each_call('HDEL', hash.key, gone)
  each_call('HSET', hash.key, written)
end

local held_by_id, waiting_by_id = read_behind(pending), read_behind(waiting)

-- When something is due, by the member of the sorted set: 'i:' and an impression's id, 'f:' and that of one for which
-- feedback waits. False: no more.
local due_at, due_changed = {}, {}

local function set_due(member, at)
  if due_at[member] == nil then due_changed[#due_changed + 1] = member end
  due_at[member] = at
end

local function write_due()
  local gone, written = {}, {}
  for _, member in ipairs(due_changed) do
    local at = due_at[member]
    if at then written[#written + 1], written[#written + 2] = at, member else gone[#gone + 1] = member end
  end
  each_call('ZREM', due, gone)
  each_call('ZADD', due, written)
  due_at, due_changed = {}, {}
end
