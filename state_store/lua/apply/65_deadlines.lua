
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

-- A deadline of an impression has passed: the end of a task's window, or of all attribution.
local function close_window(imp, score)
  local held = unpack_held(call('HGET', pending, imp))
  local passed = score - held.ts
  if passed >= attribution then
    if held.phase == HELD or held.phase == UNSAMPLED then close_base(held) end
    if settle_after > 0 and held.phase == EMITTED_NEGATIVE then emit_settled(held) end
    if is_out(held) then settle_all(held, passed) end
    call('HDEL', pending, imp)
    call('ZREM', due, 'i:' .. imp)
    return
  end
  if passed >= window and (held.phase == HELD or held.phase == UNSAMPLED) then close_base(held) end
  if settle_after > 0 and passed >= settle_after and held.phase == EMITTED_NEGATIVE then emit_settled(held) end
  if is_out(held) then settle_all(held, passed) end
  local next_deadline = attribution
  for _, deadline in ipairs(options.deadlines) do
    if deadline > passed then
      next_deadline = deadline
      break
    end
  end
  call('HSET', pending, imp, pack_held(held))
  call('ZADD', due, held.ts + next_deadline, 'i:' .. imp)
end

local function expire_waiting(imp)
  local rest, next_due = {}, false
  for _, fb in ipairs(cmsgpack.unpack(call('HGET', waiting, imp))) do
    local deadline = fb[3] + lateness
    if deadline < watermark then
      orphan('no impression for it', fb)
    else
      rest[#rest + 1] = fb
      next_due = next_due and math.min(next_due, deadline) or deadline
    end
  end
  if next_due then
    call('HSET', waiting, imp, pack(rest))
    call('ZADD', due, next_due, 'f:' .. imp)
  else
    call('HDEL', waiting, imp)
    call('ZREM', due, 'f:' .. imp)
  end
end
