
-- Impressions that are held ---------------------------------------------------------------------------------------
--
-- '>BBd': bits of the actions that came; phase + 8 * (tasks - 1) + 64 if there are values + 128; event time
-- 'd' per task: event time of the positive that decides it, 0 if there is none
-- 'B' per task, if there are several: what has been told of it
-- if there are values: 'B' how many, then 'Bdd' each: action, delay, value (NaN: none)
-- the body of its samples: core and state; without the 128, those of a former version, in msgpack
-- So it says itself of how many tasks it is: one that was declared since has had no feedback so far.

local UNKNOWN, FALSE, TRUE = 0, 1, 2 -- what the learner has been told of a task's label
local NO_ENTRIES = {} -- shared by all that have no values; never written to

-- `data` from `body_at` on is the body: samples take what they need of it, and it is written again as it was.
local function unpack_held(data)
  local bits, code, ts, first, at = unpack_bytes('>BBdd', data)
  local held = {bits = bits, phase = code % 8, ts = ts, first = {first}, told = {UNKNOWN}, values = NO_ENTRIES,
    is_former = code < 128, data = data}
  local n = floor(code / 8) % 8 + 1
  if n > 1 then
    for t = 2, n do held.first[t], at = unpack_bytes('>d', data, at) end
    for t = 1, n do held.told[t], at = unpack_bytes('B', data, at) end
  end
  for t = n + 1, num_tasks do held.first[t], held.told[t] = 0, UNKNOWN end
  if code % 128 >= 64 then
    local num_values
    num_values, at = unpack_bytes('B', data, at)
    held.values = {}
    for i = 1, num_values do
      local action, delay, value
      action, delay, value, at = unpack_bytes('>Bdd', data, at)
      held.values[i] = {action, delay, value}
    end
  end
  held.body_at = at
  return held
end

local HELD_HEAD = '>BBd' .. string.rep('d', num_tasks)

local function pack_held(held)
  local values = held.values
  local code = held.phase + 8 * (num_tasks - 1) + (#values > 0 and 64 or 0) + (held.is_former and 0 or 128)
  local body = sub(held.data, held.body_at)
  local head = pack_bytes(HELD_HEAD, held.bits, code, held.ts, unpack_all(held.first, 1, num_tasks))
  if num_tasks == 1 and #values == 0 then return head .. body end
  local parts = {head}
  if num_tasks > 1 then parts[#parts + 1] = string.char(unpack_all(held.told, 1, num_tasks)) end
  if #values > 0 then
    parts[#parts + 1] = string.char(#values)
    for _, v in ipairs(values) do parts[#parts + 1] = pack_bytes('>Bdd', v[1], v[2], v[3]) end
  end
  parts[#parts + 1] = body
  return concat(parts)
end

local function new_held(ts, phase, body)
  local held = {bits = 0, phase = phase, ts = ts, first = {0}, told = {UNKNOWN}, values = NO_ENTRIES, data = body,
    body_at = 1}
  for t = 2, num_tasks do held.first[t], held.told[t] = 0, UNKNOWN end
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
