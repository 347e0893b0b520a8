
-- Arrivals --------------------------------------------------------------------------------------------------------
--
-- The impressions that one call brought are due together: an arrival is one member of `due`, 'c:' and its number, with
-- the time at which the first of them is due next. A few are members by themselves, 'i:' and the impression's id, as all
-- are that the version before held. In the hash `arrivals`, by number:
--   '<I4' how many (n); n times 'dI4': event time in order, where its id ends; the ids
--   by number and 'p', what has passed: per deadline '<dI4' ms after the impression, how many have come to it

local MOST_MEMBERS = 32 -- looked at together
local FEW = 4
local arrived, num_arrived = {}, 0 -- held impressions, in the order in which they came
local arrival_by_number, made_arrivals = {}, false

-- Made where there are any: a call of one record need not pay for it.
local function make_arrivals()
  local INDEX_AT, INDEX_SIZE, PASSED_SIZE = 5, 12, 12
  local arrivals = read_behind(KEYS[11])
  local moved_arrivals = {}

  local function is_in_order(list)
    for n = 2, #list do
      if list[n].ts < list[n - 1].ts then return false end
    end
    return true
  end

  local function in_order(list)
    if is_in_order(list) then return list end
    local place = {}
    for n, held in ipairs(list) do place[held] = n end
    table.sort(list, function(a, b)
      if a.ts ~= b.ts then return a.ts < b.ts end
      return place[a] < place[b]
    end)
    return list
  end

  local function new_passed()
    local passed = {}
    for k, deadline in ipairs(options.deadlines) do passed[k] = {deadline, 0} end
    return passed
  end

  local function pack_passed(passed)
    local parts = {}
    for k, of in ipairs(passed) do parts[k] = pack_bytes('<dI4', of[1], of[2]) end
    return concat(parts)
  end

  local function unpack_passed(data)
    local passed = {}
    for k = 1, #data / PASSED_SIZE do passed[k] = {unpack_bytes('<dI4', data, (k - 1) * PASSED_SIZE + 1)} end
    return passed
  end

  local function is_todays(passed)
    for k, deadline in ipairs(options.deadlines) do
      if not passed[k] or passed[k][1] ~= deadline then return false end
    end
    return #passed == #options.deadlines
  end

  -- Deadlines that were declared since count as passed where a later one is; what was to be kept for longer, or is now for
  -- less long, is held until it comes to the last of today's.
  local function by_todays_deadlines(before)
    if is_todays(before) then return before end
    local passed, last = new_passed(), before[#before]
    for k, of in ipairs(passed) do
      for n = #before, 1, -1 do
        if before[n][1] >= of[1] then of[2] = before[n][2] end
      end
      if k == #passed and of[1] < last[1] then of[2] = last[2] end
    end
    return passed
  end

  local function next_due(arrival)
    local first = false
    for _, of in ipairs(arrival.passed) do
      if of[2] < arrival.n then
        local ts = unpack_bytes('<d', arrival.data, INDEX_AT + INDEX_SIZE * of[2])
        if not first or ts + of[1] < first then first = ts + of[1] end
      end
    end
    return first
  end

  local function add_arrival()
    local index, ids, size = {}, {}, 0
    for n, held in ipairs(in_order(arrived)) do
      size = size + #held.imp
      index[n], ids[n] = pack_bytes('<dI4', held.ts, size), held.imp
    end
    num_arrivals = num_arrivals + 1
    local number = string.format('%.0f', num_arrivals)
    local data = pack_bytes('<I4', #ids) .. concat(index) .. concat(ids)
    local arrival = {number = number, n_th = num_arrivals, n = #ids, data = data, passed = new_passed(), is_new = true}
    arrival_by_number[number] = arrival
    moved_arrivals[#moved_arrivals + 1] = arrival
    set_due('c:' .. number, next_due(arrival))
  end

  local function read_arrivals(numbers)
    local fields = {}
    for _, number in ipairs(numbers) do
      if not arrival_by_number[number] then fields[#fields + 1], fields[#fields + 2] = number, number .. 'p' end
    end
    read_ahead(arrivals, fields)
    for _, number in ipairs(numbers) do
      if not arrival_by_number[number] then
        local data = arrivals.of[number]
        arrival_by_number[number] = {number = number, n_th = tonumber(number), n = unpack_bytes('<I4', data), data = data,
          passed = by_todays_deadlines(unpack_passed(arrivals.of[number .. 'p']))}
      end
    end
  end

  -- What of an arrival is due before the watermark, and not behind `bound`: per deadline a list of times and ids.
  local function due_runs(arrival, bound, most, runs)
    local data, ids_at = arrival.data, INDEX_AT - 1 + INDEX_SIZE * arrival.n
    for k, of in ipairs(arrival.passed) do
      local deadline, n = of[1], of[2]
      local run, num_due = false, 0
      local at = INDEX_AT + INDEX_SIZE * n
      local from = n > 0 and unpack_bytes('<I4', data, at - 4) or 0
      while n < arrival.n and num_due < most do
        local ts, to = unpack_bytes('<dI4', data, at)
        local when = ts + deadline
        if when >= watermark or when > bound then break end
        if not run then
          run = {arrival = arrival, of = of, deadline = deadline, n_th = arrival.n_th, at = 1, dues = {}, imps = {}}
          runs[#runs + 1] = run
        end
        num_due = num_due + 1
        run.dues[num_due], run.imps[num_due] = when, sub(data, ids_at + from + 1, ids_at + to)
        n, at, from = n + 1, at + INDEX_SIZE, to
      end
    end
  end

  -- One more has come to the deadline of a run.
  local function pass_on(run)
    local arrival = run.arrival
    run.of[2] = run.of[2] + 1
    if not arrival.is_moved then
      arrival.is_moved = true
      if not arrival.is_new then moved_arrivals[#moved_arrivals + 1] = arrival end
    end
  end

  local function write_arrivals()
    local gone, written = {}, {}
    for _, arrival in ipairs(moved_arrivals) do
      local number, passed = arrival.number, arrival.number .. 'p'
      if arrival.passed[#arrival.passed][2] == arrival.n then
        if not arrival.is_new then gone[#gone + 1], gone[#gone + 2] = number, passed end
      else
        if arrival.is_new then written[#written + 1], written[#written + 2] = number, arrival.data end
        written[#written + 1], written[#written + 2] = passed, pack_passed(arrival.passed)
      end
    end
    each_call('HDEL', arrivals.key, gone)
    each_call('HSET', arrivals.key, written)
  end

  return {add = add_arrival, read = read_arrivals, next_due = next_due, due_runs = due_runs, pass_on = pass_on,
    write = write_arrivals}
end

local function of_arrivals()
  made_arrivals = made_arrivals or make_arrivals()
  return made_arrivals
end

local function note_arrived()
  if num_arrived > FEW then
    of_arrivals().add()
    return
  end
  for _, held in ipairs(arrived) do set_due('i:' .. held.imp, held.ts + options.deadlines[1]) end
end
