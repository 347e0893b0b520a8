
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
local function match_main(imp, held, delay)
  local phase = held.phase
  if phase == EMITTED_NEGATIVE or phase == EMITTED_SETTLED then
    emit_correction(held, delay)
  elseif phase == DROPPED then
    -- There is no negative to correct.
    count('dropped', -1)
    emit_base(held, 1, delay, false)
    -- Deadlines before the one that is due next have been passed.
    local next_due = due_at['i:' .. imp] or tonumber(call('ZSCORE', due, 'i:' .. imp))
    settle_all(held, next_due and next_due - held.ts - 1 or -lateness)
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
  count_one(user_state(fb[5]), fb[7] + 1)
  if num_histories > 0 then remember(held, user_state(fb[5]), mask, math.max(fb[3], held.ts)) end
  count_one(item_state(fb[6]), fb[7] + 1)
  count('matched')
  -- Without a value it is kept only where another action of the same task could be taken for the one that decided.
  local value, of_main = fb[8], false
  if not value and bit.band(mask, options.rival_mask) ~= 0 then value = 0 / 0 end
  if value then
    if held.values == NO_ENTRIES then held.values = {} end
    held.values[#held.values + 1] = {fb[7], delay, value}
  end
  for t, task in ipairs(tasks) do
    if bit.band(mask, task.positive_mask) ~= 0 and delay <= task.attribution_ms then
      note_positive(held, t, fb[3])
      if t == main then of_main = true elseif is_out(held) then settle(held, t, false) end
    end
  end
  if of_main then match_main(fb[4], held, delay) end
end

local core_at = 1
local function on_impression(r)
  local ts, imp = r[3], r[4]
  local core = sub(ARGV[11], core_at, core_at + r[7] - 1)
  core_at = core_at + r[7]
  count('impressions')
  -- What the wall clock has brought to its end is forgotten, and could not be told from a retry.
  local is_forgotten = watermark and ts + attribution < watermark
  if not in_time(r[5], ts) or is_forgotten then
    count('late')
    local event = {type = 'impression', ts = ts, imp_id = imp, user_id = r[5], item_id = r[6]}
    give_up('late impression', topic, r[2], event)
    return
  end
  if kept(held_by_id, imp, unpack_held) then
    count('duplicate_impression')
    return
  end
  local user, item = user_state(r[5]), item_state(r[6])
  local rate, chosen = sampling(imp, user)
  local held = new_held(ts, chosen and HELD or UNSAMPLED, core .. snapshot(user, item, rate))
  if options.mode == 'immediate' then
    if chosen then
      emit_base(held, 0, -1, false)
    else
      count('dropped')
      held.phase = DROPPED
    end
  end
  if options.mode ~= 'immediate' and options.as_served then
    emit(SHOWN, 0, -1, held, 0, 0, main)
    count('shown')
  end
  count_one(user, 1)
  count_one(item, 1)
  if user.first_ts == 0 or ts < user.first_ts then user.first_ts, user.is_earlier = ts, true end
  if ts > user.last_ts then user.last_ts, user.is_later = ts, true end
  count('accepted')
  local early = kept(waiting_by_id, imp, cmsgpack.unpack)
  if early then
    for _, fb in ipairs(early) do match(fb, held) end
    keep(waiting_by_id, imp, false)
    set_due('f:' .. imp, false)
  end
  keep(held_by_id, imp, held)
  set_due('i:' .. imp, ts + options.deadlines[1])
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
  local held = kept(held_by_id, imp, unpack_held)
  if held then
    match(r, held)
    keep(held_by_id, imp, held)
    return
  end
  local list = kept(waiting_by_id, imp, cmsgpack.unpack) or {}
  list[#list + 1] = r
  keep(waiting_by_id, imp, list)
  set_due('f:' .. imp, expiry_of(list))
end
