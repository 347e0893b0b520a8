
-- Join ------------------------------------------------------------------------------------------------------------

local function feedback_event(fb)
  return {type = 'feedback', ts = fb[3], imp_id = fb[4], user_id = fb[5], item_id = fb[6], action = actions[fb[7]],
    value = fb[8]}
end

local function orphan(reason, fb)
  count('orphan')
  give_up(reason, topics[2], fb[2], feedback_event(fb))
end

-- A positive of the main task. Whether it makes a positive sample or a correction is decided by event time alone.
local function match_main(held, delay)
  local phase = held.phase
  if phase == EMITTED_NEGATIVE or phase == EMITTED_SETTLED then
    emit_correction(held, delay)
  elseif phase == DROPPED then
    -- There is no negative to correct.
    count('dropped', -1)
    emit_base(held, 1, delay, false)
    settle_all(held, held.passed)
  elseif (phase == HELD or phase == UNSAMPLED) and delay <= window and options.early_positives then
    emit_base(held, 1, delay, true)
    settle_all(held, -lateness)
  end
end

-- Feedback meets its impression.
local function match(fb, held)
  local delay, mask = fb[3] - held.ts, bit.lshift(1, fb[7] - 1)
  if delay > attribution or delay < -lateness then
    orphan('outside the attribution window of its impression', fb)
    return
  end
  if bit.band(held.bits, mask) ~= 0 then
    count('duplicate_feedback')
    return
  end
  held.bits = bit.bor(held.bits, mask)
  touch(held)
  count_one(user_state(fb[5]), fb[7] + 1)
  if num_histories > 0 then remember(held, user_state(fb[5]), mask, math.max(fb[3], held.ts)) end
  count_one(item_state(fb[6]), fb[7] + 1)
  count('matched')
  -- Without a value it is kept only where another action of the same task could be taken for the one that decided.
  local value, of_main = fb[8], false
  if not value and bit.band(mask, options.rival_mask) ~= 0 then value = 0 / 0 end
  if value then
    held.values = held.values or {}
    held.values[#held.values + 1] = {fb[7], delay, value}
  end
  for t, task in ipairs(tasks) do
    if bit.band(mask, task.positive_mask) ~= 0 and delay <= task.attribution_ms then
      note_positive(held, t, fb[3])
      if t == main then of_main = true elseif is_out(held) then settle(held, t, false) end
    end
  end
  if of_main then match_main(held, delay) end
end

local core_at = 1
local function on_impression(its_offset, ts, imp, user_id, item_id, size)
  local core = sub(ARGV[11], core_at, core_at + size - 1)
  core_at = core_at + size
  count('impressions')
  -- What the wall clock has brought to its end is forgotten, and could not be told from a retry.
  local is_forgotten = watermark and ts + attribution < watermark
  if not in_time(user_id, ts) or is_forgotten then
    count('late')
    local event = {type = 'impression', ts = ts, imp_id = imp, user_id = user_id, item_id = item_id}
    give_up('late impression', topic, its_offset, event)
    return
  end
  if held_of(imp) then
    count('duplicate_impression')
    return
  end
  local user, item = user_state(user_id), item_state(item_id)
  local rate, chosen = sampling(imp, user)
  local body = pack_bytes('<Bd', 1, ts) .. core .. snapshot(user, item, rate)
  local held = new_held(imp, ts, chosen and HELD or UNSAMPLED, body)
  num_arrived = num_arrived + 1
  held.is_body_new, held_by_id[imp], arrived[num_arrived] = true, held, held
  touch(held)
  if options.mode == 'immediate' then
    if chosen then
      emit_base(held, 0, -1, false)
    else
      count('dropped')
      held.phase, held.passed = DROPPED, -lateness
    end
  end
  if options.mode ~= 'immediate' and options.as_served then
    emit(SHOWN, 0, -1, held, 0, 0, main)
    count('shown')
  end
  count_one(user, 1)
  count_one(item, 1)
  if user[FIRST_TS] == 0 or ts < user[FIRST_TS] then set_value(user, FIRST_TS, ts) end
  if ts > user[LAST_TS] then set_value(user, LAST_TS, ts) end
  count('accepted')
  local early = waits_for(imp)
  if early then
    for _, fb in ipairs(early) do match(fb, held) end
    set_waiting(imp, false)
    set_due('f:' .. imp, false)
  end
end

-- When the first of those that wait for an impression is given up.
local function expiry_of(list)
  local first = list[1][3]
  for _, fb in ipairs(list) do first = math.min(first, fb[3]) end
  return first + lateness
end

local function on_feedback(r)
  local ts, imp = r[3], r[4]
  count('feedback')
  if not in_time(r[5], ts) then
    count('late')
    give_up('late feedback', topic, r[2], feedback_event(r))
    return
  end
  local held = held_of(imp)
  if held then
    match(r, held)
    return
  end
  local list = waits_for(imp) or {}
  list[#list + 1] = r
  set_waiting(imp, list)
  set_due('f:' .. imp, expiry_of(list))
end
