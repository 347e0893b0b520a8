
-- Impressions that are held ---------------------------------------------------------------------------------------
--
-- What samples carry is written once; what is known of the labels is small, and written when it changes.
-- `bodies`: '<Bd' 1, or 0 for one that a former version held, in msgpack; event time; core and state
-- `labels`: of which nothing has come and nothing was told there is none
--   '>BB' bits of the actions that came; phase + 8 * (tasks - 1) + 64 if there are values
--   if any came, 'd' per task: event time of the positive that decides it, 0 if there is none
--   'B' per task, if there are several: what has been told of it
--   if there are values: 'B' how many, then 'Bdd' each: action, delay, value (NaN: none)
--   if it is dropped, 'd': the last deadline that has passed
-- They say themselves of how many tasks they are: one that was declared since has had no feedback so far.
-- `pending`: both in one, as the version before held them: '>BBd' bits, code + 128 if the body is not in msgpack, event
--   time; 'd' per task; then as in `labels`; the body, core and state. They are written anew where they are touched.

local UNKNOWN, FALSE, TRUE = 0, 1, 2 -- what the learner has been told of a task's label
local NO_ENTRIES, NO_POSITIVES, NOTHING_TOLD = {}, {}, {} -- shared by all that have none; never written to
for t = 1, num_tasks do NO_POSITIVES[t], NOTHING_TOLD[t] = 0, UNKNOWN end
local BODY_AT = 10 -- where core and state begin in one of `bodies`

-- Most have nothing more: what came (`first`, `values`) and what was told of other tasks is there where it is not nothing.
local function new_held(imp, ts, phase, body)
  return {imp = imp, ts = ts, phase = phase, bits = 0, body = body}
end

local unpack_labels, unpack_former

do
  local function unpack_values(data, at)
    local values, num_values = {}, nil
    num_values, at = unpack_bytes('B', data, at)
    for i = 1, num_values do
      local action, delay, value
      action, delay, value, at = unpack_bytes('>Bdd', data, at)
      values[i] = {action, delay, value}
    end
    return values, at
  end

  -- From `at` on; returns what lies behind.
  local function unpack_told(held, data, at, code, has_positives)
    local n = floor(code / 8) % 8 + 1
    held.phase = code % 8
    if has_positives then
      held.first = {unpack_all(NO_POSITIVES)}
      for t = 1, n do held.first[t], at = unpack_bytes('>d', data, at) end
    end
    if n > 1 then
      held.told = {unpack_all(NOTHING_TOLD)}
      for t = 1, n do held.told[t], at = unpack_bytes('B', data, at) end
    end
    if code % 128 >= 64 then held.values, at = unpack_values(data, at) end
    return at
  end

  function unpack_labels(held, data)
    local bits, code, at = unpack_bytes('>BB', data)
    held.bits, held.is_labelled = bits, true
    at = unpack_told(held, data, at, code, bits > 0)
    if held.phase == DROPPED then held.passed = unpack_bytes('>d', data, at) end
  end

  function unpack_former(imp, data)
    local bits, code, ts, at = unpack_bytes('>BBd', data)
    local held = new_held(imp, ts, HELD, data)
    held.bits, held.is_former, held.passed = bits, code < 128, window
    held.at = unpack_told(held, data, at, code, true)
    held.in_pending, held.is_body_new = true, true
    return held
  end
end

local function pack_labels(held)
  local values, bits = held.values or NO_ENTRIES, held.bits
  local code = held.phase + 8 * (num_tasks - 1) + (#values > 0 and 64 or 0)
  if bits == 0 and num_tasks == 1 and held.phase ~= DROPPED then return string.char(0, code) end
  local parts = {string.char(bits, code)}
  if bits > 0 then parts[2] = pack_bytes('>' .. string.rep('d', num_tasks), unpack_all(held.first or NO_POSITIVES, 1, num_tasks)) end
  if num_tasks > 1 then parts[#parts + 1] = string.char(unpack_all(held.told or NOTHING_TOLD, 1, num_tasks)) end
  if #values > 0 then
    parts[#parts + 1] = string.char(#values)
    for _, v in ipairs(values) do parts[#parts + 1] = pack_bytes('>Bdd', v[1], v[2], v[3]) end
  end
  if held.phase == DROPPED then parts[#parts + 1] = pack_bytes('>d', held.passed) end
  return concat(parts)
end

local function pack_body(held)
  if not held.in_pending then return held.body end
  return pack_bytes('<Bd', held.is_former and 0 or 1, held.ts) .. sub(held.body, held.at)
end

local function told_of(held, t)
  return held.told and held.told[t] or UNKNOWN
end

-- Of a task by itself nothing need be remembered: its phase says it.
local function tell(held, t, what)
  if num_tasks == 1 then return end
  if not held.told then held.told = {unpack_all(NOTHING_TOLD)} end
  held.told[t] = what
end

-- Which of a task's positives decides: one that the base sample can know of, then one within the task's own window,
-- then any other. Of the first kind all are there when the base sample leaves, and the earliest counts; of the others
-- it is the one that came first, as it may have been told by the time that the next one comes.
local function rank(t, delay)
  local limit = tasks[t].window_ms
  return delay <= math.min(limit, window) and 1 or delay <= limit and 2 or 3
end

local function note_positive(held, t, ts)
  if not held.first then held.first = {unpack_all(NO_POSITIVES)} end
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
  local first = held.first
  if first and first[t] ~= 0 then return first[t] - held.ts end
end
