
-- Impressions that are held ---------------------------------------------------------------------------------------
--
-- '>BBd': bits of the actions that came; phase + 8 * (tasks - 1) + 64 if there are values + 128; event time
-- 'd' per task: event time of the positive that decides it, 0 if there is none
-- 'B' per task, if there are several: what has been told of it
-- if there are values: 'B' how many, then 'Bdd' each: action, delay, value (NaN: none)
-- the body of its samples: core and state; without the 128, those of a former version, in msgpack
-- So it says itself of how many tasks it is: one that was declared since has had no feedback so far.

local UNKNOWN, FALSE, TRUE = 0, 1, 2 -- what the learner has been told of a task's label

local function unpack_held(data)
  local bits, code, ts, at = struct.unpack('>BBd', data)
  local held = {bits = bits, phase = code % 8, ts = ts, first = {}, told = {}, values = {}, is_former = code < 128}
  local n = math.floor(code / 8) % 8 + 1
  for t = 1, n do held.first[t], at = struct.unpack('>d', data, at) end
  for t = 1, n do
    if n > 1 then held.told[t], at = struct.unpack('B', data, at) else held.told[t] = UNKNOWN end
  end
  for t = n + 1, num_tasks do held.first[t], held.told[t] = 0, UNKNOWN end
  if code % 128 >= 64 then
    local num_values
    num_values, at = struct.unpack('B', data, at)
    for i = 1, num_values do
      local action, delay, value
      action, delay, value, at = struct.unpack('>Bdd', data, at)
      held.values[i] = {action, delay, value}
    end
  end
  held.body = string.sub(data, at)
  return held
end

local function pack_held(held)
  local values = held.values
  local code = held.phase + 8 * (num_tasks - 1) + (#values > 0 and 64 or 0) + (held.is_former and 0 or 128)
  local parts = {struct.pack('>BBd', held.bits, code, held.ts)}
  for t = 1, num_tasks do parts[#parts + 1] = struct.pack('>d', held.first[t]) end
  if num_tasks > 1 then parts[#parts + 1] = string.char(unpack_all(held.told, 1, num_tasks)) end
  if #values > 0 then
    parts[#parts + 1] = string.char(#values)
    for _, v in ipairs(values) do parts[#parts + 1] = struct.pack('>Bdd', v[1], v[2], v[3]) end
  end
  parts[#parts + 1] = held.body
  return table.concat(parts)
end

local function new_held(ts, phase, body)
  local held = {bits = 0, phase = phase, ts = ts, first = {}, told = {}, values = {}, body = body}
  for t = 1, num_tasks do held.first[t], held.told[t] = 0, UNKNOWN end
  return held
end

-- Which of a task's positives decides: one that the base sample can know of, then one within the task's own window,
-- then any other. Of the first kind all are there when the base sample leaves, and the earliest counts; of the others
-- it is the one that came first, as it may have been told by the time that the next one comes.
local function rank(t, delay)
  local limit = tasks[t].window_ms
  return delay <= math.min(limit, window) and 1 or delay <= limit and 2 or 3
end

local function note_positive(held, t, ts)
  local before = held.first[t]
  if before == 0 then
    held.first[t] = ts
    return
  end
  local new, old = rank(t, ts - held.ts), rank(t, before - held.ts)
  if new < old or (new == 1 and old == 1 and ts < before) then held.first[t] = ts end
end

-- Delay of the positive that decides a task; nil if there is none.
local function delay_of(held, t)
  if held.first[t] ~= 0 then return held.first[t] - held.ts end
end
