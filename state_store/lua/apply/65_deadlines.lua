
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

-- Made where something is due: a call of one record need not pay for it.
local function deadlines()
  -- Runs, the next one last: by when they are due; at once by the later deadline, then as they came.
  local function comes_later(a, b)
    local its, other = a.dues[a.at], b.dues[b.at]
    if its ~= other then return its > other end
    if a.deadline ~= b.deadline then return a.deadline < b.deadline end
    return a.n_th > b.n_th
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
    local ids, with_body, num_ids, num_bodies = {}, {}, 0, 0
    for _, run in ipairs(runs) do
      for _, imp in ipairs(run.imps) do
        if held_by_id[imp] == nil then
          num_ids = num_ids + 1
          ids[num_ids] = imp
        end
      end
    end
    read_ahead(labels, ids)
    for _, run in ipairs(runs) do
      for _, imp in ipairs(run.imps) do
        if held_by_id[imp] == nil and bodies.of[imp] == nil and may_emit(labels.of[imp], run.deadline) then
          num_bodies = num_bodies + 1
          with_body[num_bodies] = imp
        end
      end
    end
    read_ahead(bodies, with_body)
  end

  -- One that is due by itself: a run of its own for each deadline that it has come to. At once they come before arrivals.
  local function add_runs_of(held, due_since, bound, n_th, runs)
    held.next_due = false
    for _, deadline in ipairs(options.deadlines) do
      local when = held.ts + deadline
      if when >= due_since or deadline == attribution then
        if when >= watermark or when > bound then
          held.next_due = held.next_due or when
        else
          runs[#runs + 1] = {single = held, deadline = deadline, at = 1, n_th = n_th - MOST_MEMBERS - 1,
            dues = {when}, imps = {held.imp}}
        end
      end
    end
  end

  local function add_single_runs(imps, dues, bound, runs)
    read_ahead(bodies, imps)
    read_ahead(labels, imps)
    if former_held then read_ahead(former_held, imps) end
    for n, imp in ipairs(imps) do
      local held = held_of(imp)
      if held then add_runs_of(held, dues[n], bound, n, runs) end
      set_due('i:' .. imp, held and held.next_due)
    end
  end

  -- Returns how many deadlines have been handled.
  return function(numbers, imps, dues, bound, most)
    local runs, done, of = {}, 0, #numbers > 0 and of_arrivals()
    if of then of.read(numbers) end
    for _, number in ipairs(numbers) do of.due_runs(arrival_by_number[number], bound, most, runs) end
    read_due(runs)
    add_single_runs(imps, dues, bound, runs)
    table.sort(runs, comes_later)
    while done < most and #runs > 0 do
      local run = runs[#runs]
      local at, deadline = run.at, run.deadline
      local imp = run.imps[at]
      if run.single then
        pass_deadline(run.single, deadline)
      elseif held_by_id[imp] == nil and not may_emit(labels.of[imp], deadline) then
        -- All has been said of it.
        if deadline >= attribution then told_of_all[#told_of_all + 1] = imp end
      else
        local held = held_of(imp, run.dues[at] - deadline)
        if held then pass_deadline(held, deadline) end
      end
      run.at, done = at + 1, done + 1
      if not run.single then of.pass_on(run) end
      put_in_place(runs)
    end
    for _, run in ipairs(runs) do
      if run.single then set_due('i:' .. run.single.imp, run.dues[1]) end
    end
    for _, number in ipairs(numbers) do set_due('c:' .. number, of.next_due(arrival_by_number[number])) end
    return done
  end
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
