
-- Samples ---------------------------------------------------------------------------------------------------------

local NIL = '\192'
local ROW = '<BBBBBd'
local columns, tags = {}, {} -- samples of this batch, by the layout of their cores
local former = {} -- samples of impressions that a former version held

-- Values of feedback, one place per action; nil if there are none.
local function pack_values(held, entries)
  local places, found = {}, false
  for _, v in ipairs(entries) do
    if v[3] == v[3] then places[v[1]], found = v[3], true end
  end
  if not found then return nil end
  if held.is_former then
    for i = 1, num_actions do places[i] = places[i] and pack(places[i]) or NIL end
    return string.char(144 + num_actions) .. concat(places)
  end
  return places
end

-- As many as the layout of the core has, which may be one of when there were other actions.
local function columns_of(values, n)
  local places = {}
  for i = 1, n do places[i] = values and values[i] or 0 / 0 end
  return pack_bytes('<' .. string.rep('d', n), unpack_all(places))
end
local NO_VALUES = columns_of(nil, num_actions)

-- Of all that came within a delay.
local function values_within(held, limit)
  if not held.values then return nil end
  local entries = {}
  for _, v in ipairs(held.values) do
    if v[2] <= limit then entries[#entries + 1] = v end
  end
  return pack_values(held, entries)
end

-- Of the positive that decides a task: the first that came with its delay.
local function deciding_value(held, t, delay)
  for _, v in ipairs(held.values or NO_ENTRIES) do
    if v[2] == delay and bit.band(bit.lshift(1, v[1] - 1), tasks[t].positive_mask) ~= 0 then return pack_values(held, {v}) end
  end
end

-- What its samples carry, also where it was not read ahead.
local function body_of(held)
  if not held.body then
    held.body = read_one(bodies, held.imp)
    held.is_former = string.byte(held.body) == 0
  end
  return held.body
end

local count_names = {} -- by task, what is counted -> the counter's name
local function count_task(what, t)
  local names = count_names[t] or {}
  count_names[t] = names
  names[what] = names[what] or what .. ':' .. tasks[t].name
  count(names[what])
end

local function emit_former(kind, label, delay, held, labels, known, t, values)
  if num_tasks == 1 and not values then
    former[#former + 1] = '\149' .. pack(kind, label, delay) .. sub(body_of(held), held.at or BODY_AT)
  else
    local further = pack(labels, known, t - 1) .. (values or NIL)
    former[#former + 1] = '\153' .. pack(kind, label, delay) .. sub(body_of(held), held.at or BODY_AT) .. further
  end
end

-- Of a body, by the layout that it says itself: tag, text, keys, number of its actions, what stands behind the values.
local function parts_of(held)
  local parts = held.parts
  if not parts then
    local data, at = body_of(held), held.at or BODY_AT
    local tag, text_size, keys_size, n_values, text_at = unpack_bytes('<I4I4I4B', data, at)
    local keys_at = text_at + text_size
    local row_at = keys_at + keys_size
    parts = {tag, sub(data, text_at, keys_at - 1), sub(data, keys_at, row_at - 1), n_values, sub(data, row_at)}
    held.parts = parts
  end
  return parts
end

-- Where a msgpack string at `at` begins and where the next value does.
local function text_at(text, at)
  local mark, size = string.byte(text, at, at + 1)
  if mark < 192 then return at + 1, at + 1 + mark - 160 end
  if mark == 217 then return at + 2, at + 2 + size end
  return at + 3, at + 3 + 256 * size + string.byte(text, at + 2)
end

local remember, carry_histories
if num_histories > 0 then
  local NO_CATEGORY = string.rep('\0', 8)

  -- What an action of a user adds to the histories. Cores of other layouts, or of a former version, do not say which keys.
  function remember(held, user, mask, ts)
    body_of(held)
    local places = not held.is_former and options.history_places[parts_of(held)[1]]
    if not places then return end
    local row = parts_of(held)[5]
    for h, history in ipairs(histories) do
      if bit.band(mask, history.mask) ~= 0 then
        local item, by = places[1], places[h + 1]
        local category = by >= 0 and sub(row, by + 1, by + 8) or NO_CATEGORY
        local entry = pack_bytes('<d', ts) .. sub(row, item + 1, item + 8) .. category
        local list, is_last = with_entry(user.histories[h], entry, ts, history.kept)
        if not is_last then leave_view(user, h) end
        user.histories[h] = list
        user.remembered = user.remembered or {}
        user.remembered[h] = true
      end
    end
  end

  -- What a sample carries: the histories as of its impression.
  function carry_histories(held, carried)
    local text, n = parts_of(held)[2], #carried
    local _, user_at = text_at(text, 1)
    local from, behind = text_at(text, user_at)
    local user = user_state(sub(text, from, behind - 1))
    for h, history in ipairs(histories) do
      local first, last = history_before(user.histories[h], held.ts, history)
      carried[n + 1], carried[n + 2], carried[n + 3] = view_of(user, h, first, last), first, last
      n = n + 3
    end
  end
end

local bare_head
do
  local bare_heads = {} -- of rows of the main task that say nothing but their kind
  function bare_head(kind)
    local head = bare_heads[kind]
    if not head then
      head = pack_bytes(ROW, kind, 0, 0, 0, main - 1, -1) .. NO_VALUES
      bare_heads[kind] = head
    end
    return head
  end
end

local function emit(kind, label, delay, held, labels, known, t, values)
  body_of(held)
  if held.is_former then return emit_former(kind, label, delay, held, labels, known, t, values) end
  if num_tasks == 1 and not values then labels, known = 0, 0 end
  local parts = parts_of(held)
  local tag, text, keys, n_values = parts[1], parts[2], parts[3], parts[4]
  local head
  if not values and n_values == num_actions then
    if label == 0 and delay == -1 and known == 0 and t == main then head = bare_head(kind)
    else head = pack_bytes(ROW, kind, label, labels, known, t - 1, delay) .. NO_VALUES end
  else
    head = pack_bytes(ROW, kind, label, labels, known, t - 1, delay) .. columns_of(values, n_values)
  end
  local of = columns[tag]
  if not of then
    of = {n = 0, texts = {}, keys = {}, rows = {}, carried = {}, text_size = 0, keys_size = 0}
    columns[tag], tags[#tags + 1] = of, tag
  end
  local n, rows, row = of.n + 1, of.rows, parts[5]
  of.n, of.texts[n], of.keys[n] = n, text, keys
  if tag == options.history_tag then
    carry_histories(held, of.carried)
    rows[3 * n - 2], rows[3 * n - 1] = head, row
  else
    rows[2 * n - 1], rows[2 * n] = head, row
  end
  of.text_size, of.keys_size = of.text_size + #text, of.keys_size + #keys
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
    tell(held, t, is_true and TRUE or is_known and FALSE or UNKNOWN)
    count_task(is_true and 'positive' or is_known and 'negative' or 'unknown', t)
  end
  held.phase = label == 1 and EMITTED_POSITIVE or EMITTED_NEGATIVE
  touch(held)
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
  local is_taken_back = t == main or told_of(held, t) == FALSE
  count_task(label == 0 and 'late_negative' or is_taken_back and 'correction' or 'late_positive', t)
  tell(held, t, label == 1 and TRUE or FALSE)
  touch(held)
end

-- Nothing came for a negative in time. If something did come since, that is said behind it: decided by event time alone.
local function emit_settled(held)
  emit(SETTLED, 0, -1, held, 0, 0, main)
  held.phase = EMITTED_SETTLED
  touch(held)
  count('settled')
end

local function emit_correction(held, delay)
  if settle_after > 0 and delay > settle_after and held.phase == EMITTED_NEGATIVE then emit_settled(held) end
  tell(held, main, FALSE)
  emit_label(CORRECTION, held, main, 1, delay)
  held.phase = CORRECTED
  count('correction')
end

-- Whether the base sample has left.
local function is_out(held)
  local phase = held.phase
  return phase == EMITTED_NEGATIVE or phase == EMITTED_POSITIVE or phase == CORRECTED or phase == EMITTED_SETTLED
end

-- Tell what has become known of another task since the base sample left.
local function settle(held, t, is_closed)
  local delay, told, limit = delay_of(held, t), told_of(held, t), tasks[t].window_ms
  if told == TRUE then return end
  local in_window = delay and delay <= limit
  if told == UNKNOWN and is_closed and not in_window then
    emit_label(TASK_CORRECTION, held, t, 0, -1)
    count('task_correction')
  end
  if in_window or (delay and told_of(held, t) == FALSE) then
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
