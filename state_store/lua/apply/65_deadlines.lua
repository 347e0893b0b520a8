
-- Deadlines -------------------------------------------------------------------------------------------------------

local pass_deadlines
do -- A function has at most 200 locals.
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
    if num_tasks > 1 and is_out(held) then settle_all(held, passed) end
    if held.phase == DROPPED and num_tasks > 1 then
      held.passed = passed
      touch(held)
    end
    if passed >= attribution then
      held.is_gone, held_by_id[held.imp] = true, false
      touch(held)
    end
  end

  -- Runs, the next one last: by when they are due; at once by the later deadline, then as they came.
  local function comes_later(a, b)
    local its, other = a.dues[a.at], b.dues[b.at]
    if its ~= other then return its > other end
    if a.deadline ~= b.deadline then return a.deadline < b.deadline end
    return a.arrival.n_th > b.arrival.n_th
  end

  -- The last one has moved on by one: it goes where it belongs now. Its place is near, as runs lie one behind the other.
  local function put_in_place(runs)
    local n = #runs
    local run = runs[n]
    if run.at > #run.dues then
      runs[n] = nil
      return
    end
    local when = run.dues[run.at]
    -- Whose time is earlier for certain need not be compared closely.
    while n > 1 and when >= runs[n - 1].dues[runs[n - 1].at] and comes_later(run, runs[n - 1]) do
      runs[n] = runs[n - 1]
      n = n - 1
    end
    runs[n] = run
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
  function pass_deadlines(numbers, bound, most)
    local runs, done = {}, 0
    read_arrivals(numbers)
    for _, number in ipairs(numbers) do due_runs(arrival_by_number[number], bound, most, runs) end
    read_due(runs)
    table.sort(runs, comes_later)
    while done < most and #runs > 0 do
      local run = runs[#runs]
      local at, deadline = run.at, run.deadline
      local imp = run.imps[at]
      if held_by_id[imp] == nil and not may_emit(labels.of[imp], deadline) then
        -- All has been said of it.
        if deadline >= attribution then told_of_all[#told_of_all + 1] = imp end
      else
        local held = held_of(imp, run.dues[at] - deadline)
        if held then pass_deadline(held, deadline) end
      end
      run.at, done = at + 1, done + 1
      pass_on(run)
      put_in_place(runs)
    end
    for _, number in ipairs(numbers) do set_due('c:' .. number, next_due(arrival_by_number[number])) end
    return done
  end
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
