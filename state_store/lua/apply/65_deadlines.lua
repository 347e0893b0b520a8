
-- Deadlines -------------------------------------------------------------------------------------------------------

-- The main task's window has closed.
local function close_base(held)
  local delay = delay_of(held, main)
  if delay and (delay <= window or held.phase == UNSAMPLED) then
    emit_base(held, 1, delay, false)
  elseif held.phase == UNSAMPLED then
    count('dropped')
    held.phase, held.passed = DROPPED, window
    touch(held)
  else
    emit_base(held, 0, -1, false)
    if delay then emit_correction(held, delay) end
  end
end

-- Whether samples may leave at a deadline, by what is known of the labels (false: nothing): then the body is needed.
local function may_emit(said, deadline)
  if not said or num_tasks > 1 then return true end
  local phase = string.byte(said, 2) % 8
  if phase == HELD or phase == UNSAMPLED then return true end
  return phase == EMITTED_NEGATIVE and settle_after > 0 and deadline >= settle_after
end

-- A deadline of an impression has passed: the end of a task's window, or of all attribution. Nothing is said twice.
local function pass_deadline(held, passed)
  if passed >= window and (held.phase == HELD or held.phase == UNSAMPLED) then close_base(held) end
  if settle_after > 0 and passed >= settle_after and held.phase == EMITTED_NEGATIVE then emit_settled(held) end
  if is_out(held) then settle_all(held, passed) end
  if held.phase == DROPPED and num_tasks > 1 then
    held.passed = passed
    touch(held)
  end
  if passed >= attribution then
    held.is_gone, held_by_id[held.imp] = true, false
    touch(held)
  end
end

-- By when they are due; at once by the later deadline, then as they came.
local function next_of(runs)
  local first, when
  for _, run in ipairs(runs) do
    local its = run.dues[run.at]
    if its and (not first or its < when) then first, when = run, its end
  end
  return first
end

local function read_due(runs)
  local ids, with_body = {}, {}
  for _, run in ipairs(runs) do
    for _, imp in ipairs(run.imps) do
      if held_by_id[imp] == nil then ids[#ids + 1] = imp end
    end
  end
  read_ahead(labels, ids)
  for _, run in ipairs(runs) do
    for _, imp in ipairs(run.imps) do
      if held_by_id[imp] == nil and bodies.of[imp] == nil and may_emit(labels.of[imp], run.deadline) then
        with_body[#with_body + 1] = imp
      end
    end
  end
  read_ahead(bodies, with_body)
end

-- Returns how many deadlines have been handled.
local function pass_deadlines(numbers, bound, most)
  local runs, done = {}, 0
  read_arrivals(numbers)
  for _, number in ipairs(numbers) do due_runs(arrival_by_number[number], bound, most, runs) end
  table.sort(runs, function(a, b)
    if a.deadline ~= b.deadline then return a.deadline > b.deadline end
    return a.arrival.n_th < b.arrival.n_th
  end)
  read_due(runs)
  while done < most do
    local run = next_of(runs)
    if not run then break end
    local held = held_of(run.imps[run.at], run.dues[run.at] - run.deadline)
    if held then pass_deadline(held, run.deadline) end
    run.at, done = run.at + 1, done + 1
  end
  for _, run in ipairs(runs) do pass_on(run) end
  for _, number in ipairs(numbers) do set_due('c:' .. number, next_due(arrival_by_number[number])) end
  return done
end

-- One that a former version held comes to its next deadline: from now on it is due as those are that came in this call.
local function take_over(imp)
  local held = held_of(imp)
  if held then
    arrived[#arrived + 1] = held
    touch(held)
  end
  set_due('i:' .. imp, false)
end

local function expire_waiting(imp)
  local rest = {}
  for _, fb in ipairs(waits_for(imp) or {}) do
    if fb[3] + lateness < watermark then orphan('no impression for it', fb) else rest[#rest + 1] = fb end
  end
  local some = #rest > 0
  set_waiting(imp, some and rest)
  set_due('f:' .. imp, some and expiry_of(rest))
end
