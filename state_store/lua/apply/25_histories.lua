
-- Histories -------------------------------------------------------------------------------------------------------
--
-- What a user did, newest last: per declared history a string of entries of 24 bytes, '<d' event time, key of the item,
-- key of its category (0: none). They are in the order of event time, then of their keys: the order in which feedback
-- comes decides nothing, and neither does a replay. An entry is never earlier than its impression.

local histories, num_histories, ENTRY = options.histories, #options.histories, 24

local with_entry, history_before
if num_histories > 0 then
  -- Whether an entry goes behind the one at `at`.
  local function goes_behind(list, at, entry, ts)
    local other = unpack_bytes('<d', list, at)
    if ts ~= other then return ts > other end
    local low, high, low_2, high_2 = unpack_bytes('<I4I4I4I4', entry, 9)
    local its_low, its_high, its_low_2, its_high_2 = unpack_bytes('<I4I4I4I4', list, at + 8)
    if high ~= its_high then return high > its_high end
    if low ~= its_low then return low > its_low end
    if high_2 ~= its_high_2 then return high_2 > its_high_2 end
    return low_2 >= its_low_2
  end

  function with_entry(list, entry, ts, most)
    local at = #list - ENTRY + 1
    while at > 0 and not goes_behind(list, at, entry, ts) do at = at - ENTRY end
    list = sub(list, 1, at + ENTRY - 1) .. entry .. sub(list, at + ENTRY)
    return sub(list, math.max(#list - most * ENTRY, 0) + 1)
  end

  -- The newest entries before `ts`.
  function history_before(list, ts, length)
    local last = #list
    while last > 0 and unpack_bytes('<d', list, last - ENTRY + 1) >= ts do last = last - ENTRY end
    return sub(list, math.max(last - length * ENTRY, 0) + 1, last)
  end
end
