
-- The batch -----------------------------------------------------------------------------------------------------

if not tick then
  local IMPRESSION, FEEDBACK, HEARTBEAT, REROUTED = 1, 2, 3, 4
  local records = cmsgpack.unpack(ARGV[7])
  local imps = imps_of(records)
  read_ahead(bodies, imps)
  if topic ~= topics[1] then read_ahead(labels, imps) end
  if former_held then read_ahead(former_held, imps) end
  read_ahead(waiting_by_id, imps)
  for at = 1, #records, WIDTH do
    local kind, offset, ts, imp, user, item, what, value = unpack_all(records, at, at + WIDTH - 1)
    if kind == IMPRESSION then on_impression(offset, ts, imp, user, item, what)
    elseif kind == FEEDBACK then
      on_feedback(value and {kind, offset, ts, imp, user, item, what, value} or {kind, offset, ts, imp, user, item, what})
    elseif kind == HEARTBEAT then
      count('heartbeat')
      if ts > (clock.top or -1) then move_time(ts) end
    elseif kind == REROUTED then count('rerouted')
    else count('malformed') end
  end
end

-- The watermark: the least of the topics' event times, less the allowed lateness. Where everything that was written has
-- been read and nothing moves event time for a while (`idle_after_ms`), it goes on with the wall clock, behind the newest
-- record and never past the clock itself: windows close though nobody comes, or too few do to agree. A topic that is
-- quiet does not hold the other back.
do
  local reading = cmsgpack.unpack(ARGV[9])
  local is_quiet, is_read = {}, {}
  for _, name in ipairs(reading.quiet or {}) do is_quiet[name] = true end
  for _, name in ipairs(reading.read or {}) do is_read[name] = true end
  local idle_after = reading.idle_after_ms

  local function by_the_clock(from, since)
    return math.min(from + math.max(0, now - since - idle_after), now - idle_after)
  end

  local low, known, all_quiet, latest = false, true, true, false
  for i, name in ipairs(topics) do
    local of = clocks[i]
    if is_quiet[name] then
      local newest = newest_claim(of)
      if newest and of.seen then
        local at = by_the_clock(newest, of.seen)
        if not latest or at > latest then latest = at end
      end
    else
      all_quiet = false
      local top = of.top
      if top and of.moved and is_read[name] then top = math.max(top, by_the_clock(top, of.moved)) end
      if not top then known = false
      elseif not low or top < low then low = top end
    end
  end
  if all_quiet then low = latest end
  if known and low and (not watermark or low - lateness > watermark) then watermark = low - lateness end
end

-- Some members at a time, and nothing behind the first of those that are not among them.
local pass_deadlines
local function handle_due(most)
  write_due()
  local before = '(' .. string.format('%.0f', watermark)
  local ready = call('ZRANGEBYSCORE', due, '-inf', before, 'WITHSCORES', 'LIMIT', 0, MOST_MEMBERS + 1)
  if #ready == 0 then return 0 end
  local bound, numbers, imps, dues, expiring = watermark, {}, {}, {}, {}
  if #ready > 2 * MOST_MEMBERS then bound, is_due_again = tonumber(ready[#ready]), true end
  for i = 1, math.min(#ready, 2 * MOST_MEMBERS), 2 do
    local kind, id = sub(ready[i], 1, 1), sub(ready[i], 3)
    if kind == 'c' then numbers[#numbers + 1] = id
    elseif kind == 'i' then imps[#imps + 1], dues[#dues + 1] = id, tonumber(ready[i + 1])
    else expiring[#expiring + 1] = id end
  end
  read_ahead(waiting_by_id, expiring)
  for _, imp in ipairs(expiring) do expire_waiting(imp) end
  pass_deadlines = pass_deadlines or deadlines()
  return #expiring + pass_deadlines(numbers, imps, dues, bound, most)
end

note_arrived()
if watermark then
  local left = options.release_limit
  repeat
    is_due_again = false
    left = left - math.max(1, handle_due(left))
  until left <= 0 or not is_due_again
end
local more = watermark and is_due_again and 1 or 0
write_due()
