-- What is held, waits and is due: read ahead, written behind -----------------------------------------------------
--
-- A call from a script costs more than most commands do. So what a batch concerns is read in one call per kind, kept
-- here while records and deadlines are handled, and written in one call per kind at the end.

local MOST = 4000 -- fields of one call: Lua puts no more than some 8,000 arguments on its stack

-- Of the impressions that records are, or are feedback to; others have none.
local function imps_of(records)
  local imps, n = {}, 0
  for at = 4, #records, WIDTH do
    if records[at] then
      n = n + 1
      imps[n] = records[at]
    end
  end
  return imps
end

-- A hash of which fields are read ahead. `of[id]`: its value, false if there is none, nil if it was not read yet.
local function read_behind(key)
  return {key = key, of = {}}
end

local function read_ahead(hash, ids)
  local of = hash.of
  for from = 1, #ids, MOST do
    local to = math.min(from + MOST - 1, #ids)
    local values = call('HMGET', hash.key, unpack_all(ids, from, to))
    for n = from, to do
      if of[ids[n]] == nil then of[ids[n]] = values[n - from + 1] end
    end
  end
end

local function read_one(hash, id)
  local value = hash.of[id]
  if value == nil then
    value = call('HGET', hash.key, id)
    hash.of[id] = value
  end
  return value
end

local function each_call(name, key, arguments)
  for from = 1, #arguments, MOST do call(name, key, unpack_all(arguments, from, math.min(from + MOST - 1, #arguments))) end
end

-- Redis keeps a hash of few and short values as a list, and searches it from its beginning. One long value prevents that.
local WIDE = string.rep(' ', 65)

-- What is gone first, as a Redis that is full takes that.
local function write_short(key, gone, written)
  each_call('HDEL', key, gone)
  if #written > 0 then
    written[#written + 1], written[#written + 2] = '', WIDE
    each_call('HSET', key, written)
  elseif #gone > 0 and call('HLEN', key) == 1 then
    call('DEL', key)
  end
end

-- What is held: by impression, false if there is none; those of which something is to be written.
local bodies, labels, held_by_id, touched, num_touched = read_behind(KEYS[9]), read_behind(KEYS[10]), {}, {}, 0
local told_of_all = {} -- impressions of which all has been said, at their end
local former_held = call('EXISTS', pending) == 1 and read_behind(pending)

local function touch(held)
  if held.is_touched then return end
  held.is_touched = true
  num_touched = num_touched + 1
  touched[num_touched] = held
end

-- With what has come for it. `ts` is its event time, if that is known: its body is then read where it is needed.
local function held_of(imp, ts)
  local held = held_by_id[imp]
  if held ~= nil then return held end
  local body = bodies.of[imp]
  if not (ts and body == nil) then body = read_one(bodies, imp) end
  if body or body == nil then
    local at = ts
    if body then at = select(2, unpack_bytes('<Bd', body)) end
    held = new_held(imp, at, HELD, body)
    held.is_former = body and string.byte(body) == 0
    local said = read_one(labels, imp)
    if said then unpack_labels(held, said) end
  else
    local said = former_held and read_one(former_held, imp)
    held = said and unpack_former(imp, said)
  end
  held_by_id[imp] = held
  return held
end

local function write_held()
  local gone, unlabelled, moved, new, changed = {}, {}, {}, {}, {}
  local num_new, num_changed = 0, 0
  for n, imp in ipairs(told_of_all) do gone[n], unlabelled[n] = imp, imp end
  for _, held in ipairs(touched) do
    local imp = held.imp
    if held.in_pending then moved[#moved + 1] = imp end
    if held.is_gone then
      gone[#gone + 1] = imp
      if held.is_labelled then unlabelled[#unlabelled + 1] = imp end
    else
      if held.is_body_new then
        new[num_new + 1], new[num_new + 2] = imp, pack_body(held)
        num_new = num_new + 2
      end
      if held.phase ~= HELD or held.bits ~= 0 then
        changed[num_changed + 1], changed[num_changed + 2] = imp, pack_labels(held)
        num_changed = num_changed + 2
      end
    end
  end
  each_call('HDEL', bodies.key, gone)
  each_call('HDEL', pending, moved)
  each_call('HSET', bodies.key, new)
  write_short(labels.key, unlabelled, changed)
end

-- Feedback that came before its impression: by impression a list, false if there is none.
local waiting_by_id, waiting_changed = read_behind(waiting), {}

local function waits_for(imp)
  local list = read_one(waiting_by_id, imp)
  if type(list) == 'string' then
    list = cmsgpack.unpack(list)
    waiting_by_id.of[imp] = list
  end
  return list
end

local function set_waiting(imp, list)
  waiting_by_id.of[imp] = list
  waiting_changed[imp] = true
end

local function write_waiting()
  local gone, written = {}, {}
  for imp in pairs(waiting_changed) do
    local list = waiting_by_id.of[imp]
    if list then written[#written + 1], written[#written + 2] = imp, pack(list) else gone[#gone + 1] = imp end
  end
  write_short(waiting, gone, written)
end

-- When something is due, by the member of the sorted set: 'c:' and the number of an arrival, 'i:' and the id of an
-- impression, 'f:' and that of one for which feedback waits. False: no more.
local due_at, due_changed = {}, {}
local is_due_again = false -- whether something is due already that was given its time just now

local function set_due(member, at)
  if at and watermark and at < watermark then is_due_again = true end
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
