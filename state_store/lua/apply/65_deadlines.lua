
-- Deadlines -------------------------------------------------------------------------------------------------------

-- The main task's window has closed.
local function close_base(held)
  local delay = delay_of(held, main)
  if delay and (delay <= window or held.phase == UNSAMPLED) then
    emit_base(held, 1, delay, false)
  elseif held.phase == UNSAMPLED then
    count('dropped')
    held.phase = DROPPED
  else
    emit_base(held, 0, -1, false)
    if delay then emit_correction(held, delay) end
  end
end

-- Whether anything may have to be done at a deadline, as things stand.
local function matters(held, deadline)
  if deadline >= attribution then return true end
  local phase = held.phase
  if deadline == window and (phase == HELD or phase == UNSAMPLED) then return true end
  if deadline == settle_after and (phase == HELD or phase == EMITTED_NEGATIVE) then return true end
  for t, task in ipairs(tasks) do
    if t ~= main and deadline == task.window_ms then return true end
  end
  return false
end

local function next_deadline(held, passed)
  for _, deadline in ipairs(options.deadlines) do
    if deadline > passed and matters(held, deadline) then return deadline end
  end
  return attribution
end

-- A deadline of an impression has passed: the end of a task's window, or of all attribution.
local function close_window(imp, score)
  local held = kept(held_by_id, imp, unpack_held)
  local passed = score - held.ts
  if passed >= attribution then
    if held.phase == HELD or held.phase == UNSAMPLED then close_base(held) end
    if settle_after > 0 and held.phase == EMITTED_NEGATIVE then emit_settled(held) end
    if is_out(held) then settle_all(held, passed) end
    keep(held_by_id, imp, false)
    set_due('i:' .. imp, false)
    return
  end
  if passed >= window and (held.phase == HELD or held.phase == UNSAMPLED) then close_base(held) end
  if settle_after > 0 and passed >= settle_after and held.phase == EMITTED_NEGATIVE then emit_settled(held) end
  if is_out(held) then settle_all(held, passed) end
  keep(held_by_id, imp, held)
  set_due('i:' .. imp, held.ts + next_deadline(held, passed))
end

local function expire_waiting(imp)
  local rest = {}
  for _, fb in ipairs(kept(waiting_by_id, imp, cmsgpack.unpack)) do
    if fb[3] + lateness < watermark then orphan('no impression for it', fb) else rest[#rest + 1] = fb end
  end
  local some = #rest > 0
  keep(waiting_by_id, imp, some and rest)
  set_due('f:' .. imp, some and expiry_of(rest))
end
