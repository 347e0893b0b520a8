
-- Samples ---------------------------------------------------------------------------------------------------------

local NIL = '\192'
local samples = {}

-- Values of feedback as a msgpack array with one place per action; nil if there are none.
local function pack_values(entries)
  local places, found = {}, false
  for _, v in ipairs(entries) do
    if v[3] == v[3] then places[v[1]], found = pack(v[3]), true end
  end
  if not found then return nil end
  for i = 1, num_actions do places[i] = places[i] or NIL end
  return string.char(144 + num_actions) .. table.concat(places)
end

-- Of all that came within a delay.
local function values_within(held, limit)
  local entries = {}
  for _, v in ipairs(held.values) do
    if v[2] <= limit then entries[#entries + 1] = v end
  end
  return pack_values(entries)
end

-- Of the positive that decides a task: the first that came with its delay.
local function deciding_value(held, t, delay)
  for _, v in ipairs(held.values) do
    if v[2] == delay and bit.band(bit.lshift(1, v[1] - 1), tasks[t].positive_mask) ~= 0 then return pack_values({v}) end
  end
end

local function emit(kind, label, delay, held, labels, known, t, values)
  if num_tasks == 1 and not values then
    samples[#samples + 1] = '\149' .. pack(kind, label, delay) .. held.body
  else
    local further = pack(labels, known, t - 1) .. (values or NIL)
    samples[#samples + 1] = '\153' .. pack(kind, label, delay) .. held.body .. further
  end
end

-- The base sample: label of the main task, and of the others what can be known by now. That is decided by event time
-- alone, so that it does not depend on which topic was read first.
local function emit_base(held, label, delay, is_early)
  local labels, known = 0, 0
  for t, task in ipairs(tasks) do
    local d, is_true, is_known = delay_of(held, t), false, false
    if t == main then
      is_true, is_known = label == 1, true
    elseif options.mode == 'immediate' then
      is_known = true
    elseif not is_early then
      is_true = d and rank(t, d) == 1
      is_known = is_true or task.window_ms <= window
    end
    local bit_of = bit.lshift(1, t - 1)
    if is_true then labels = labels + bit_of end
    if is_known then known = known + bit_of end
    held.told[t] = is_true and TRUE or is_known and FALSE or UNKNOWN
    count((is_true and 'positive:' or is_known and 'negative:' or 'unknown:') .. task.name)
  end
  held.phase = label == 1 and EMITTED_POSITIVE or EMITTED_NEGATIVE
  count(label == 1 and 'positive' or 'negative')
  emit(label == 1 and POSITIVE or NEGATIVE, label, delay, held, labels, known, main, values_within(held, window))
end

-- The label of one task, after the base sample, with the value of the feedback that decides it, or, where none came in
-- time, of all that came till then.
local function emit_label(kind, held, t, label, delay)
  local bit_of = bit.lshift(1, t - 1)
  local values
  if label == 1 then
    values = deciding_value(held, t, delay)
  else
    values = values_within(held, tasks[t].window_ms)
  end
  emit(kind, label, delay, held, label * bit_of, bit_of, t, values)
  local what = label == 0 and 'late_negative:' or held.told[t] == FALSE and 'correction:' or 'late_positive:'
  count(what .. tasks[t].name)
  held.told[t] = label == 1 and TRUE or FALSE
end

local function emit_correction(held, delay)
  held.told[main] = FALSE
  emit_label(CORRECTION, held, main, 1, delay)
  held.phase = CORRECTED
  count('correction')
end

-- Whether the base sample has left.
local function is_out(held)
  return held.phase == EMITTED_NEGATIVE or held.phase == EMITTED_POSITIVE or held.phase == CORRECTED
end

-- Tell what has become known of another task since the base sample left.
local function settle(held, t, is_closed)
  local delay, told, limit = delay_of(held, t), held.told[t], tasks[t].window_ms
  if told == TRUE then return end
  local in_window = delay and delay <= limit
  if told == UNKNOWN and is_closed and not in_window then
    emit_label(TASK_CORRECTION, held, t, 0, -1)
    count('task_correction')
  end
  if in_window or (delay and held.told[t] == FALSE) then
    emit_label(TASK_CORRECTION, held, t, 1, delay)
    count('task_correction')
  end
end

-- The same for all others, `passed` ms of event time after the impression.
local function settle_all(held, passed)
  for t, task in ipairs(tasks) do
    if t ~= main then settle(held, t, task.window_ms <= passed) end
  end
end

local function give_up(reason, from_topic, from_offset, event)
  call('XADD', dead, '*', 'reason', reason, 'topic', from_topic, 'offset', from_offset, 'event', pack(event))
end
