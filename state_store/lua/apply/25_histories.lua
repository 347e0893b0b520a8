
-- Histories -------------------------------------------------------------------------------------------------------
--
-- What a user did, newest last: per declared history a string of entries of 24 bytes, '<d' event time, key of the item,
-- key of its category (0: none). They are in the order of event time, then of their keys: the order in which feedback
-- comes decides nothing, and neither does a replay. An entry is never earlier than its impression.
--
-- Only the newest `kept` of a history count. It is cut to these when it is written; within a batch it only grows at its
-- end, so that its samples can name what they carry by place. Samples of a batch share one view of a user's history,
-- which goes into the outbox once; what lands between older entries moves those, and begins a new view.

local histories, num_histories, ENTRY = options.histories, #options.histories, 24
local views = {}

local with_entry, history_before, cut_history, view_of, leave_view, join_views
if num_histories > 0 then
  local PLACES = '<' .. string.rep('I4', num_histories) .. string.rep('I2', num_histories)

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

  function cut_history(list, most)
    return sub(list, math.max(#list - most * ENTRY, 0) + 1)
  end

  -- The list with one entry more, and whether it is the last.
  function with_entry(list, entry, ts, most)
    local at = #list - ENTRY + 1
    if at < 1 or goes_behind(list, at, entry, ts) then return list .. entry, true end
    repeat at = at - ENTRY until at < 1 or goes_behind(list, at, entry, ts)
    return cut_history(sub(list, 1, at + ENTRY - 1) .. entry .. sub(list, at + ENTRY), most), false
  end

  -- The newest entries before `ts`: how many bytes lie before them, and before their end.
  function history_before(list, ts, history)
    local first, last = math.max(#list - history.kept * ENTRY, 0), #list
    -- Of who has just been shown something all is before; of whom it is told later, much may have come since.
    if last > first and unpack_bytes('<d', list, last - ENTRY + 1) >= ts then
      local low, high = first / ENTRY, last / ENTRY - 1
      while low < high do
        local middle = floor((low + high) / 2)
        if unpack_bytes('<d', list, middle * ENTRY + 1) < ts then low = middle + 1 else high = middle end
      end
      last = low * ENTRY
    end
    return math.max(last - history.length * ENTRY, first), last
  end

  -- The view of a user's history that has these bytes of it; false if there are none.
  function view_of(user, h, from, to)
    if from == to then return false end
    local view = user.views[h]
    if not view then
      view = {user = user, h = h, from = from, to = to, list = false, moved_by = 0}
      user.views[h], views[#views + 1] = view, view
    elseif from < view.from then view.from = from end
    if to > view.to then view.to = to end
    return view
  end

  -- The list is about to be another.
  function leave_view(user, h)
    local view = user.views[h]
    if view then view.list, user.views[h] = user.histories[h], false end
  end

  -- All views one behind the other; and into the rows, which have three pieces each, where in there are the entries of
  -- each sample's histories, and how many. `carried` has three values of each history of each sample: view, from, to.
  function join_views(rows, carried, num_samples)
    local texts, at = {}, 0
    for n, view in ipairs(views) do
      texts[n] = sub(view.list or view.user.histories[view.h], view.from + 1, view.to)
      view.moved_by = at - view.from
      at = at + #texts[n]
    end
    local places, i = {}, 1
    for n = 1, num_samples do
      for h = 1, num_histories do
        local view, from, to = carried[i], carried[i + 1], carried[i + 2]
        places[h] = view and (from + view.moved_by) / ENTRY or 0
        places[num_histories + h] = (to - from) / ENTRY
        i = i + 3
      end
      rows[3 * n] = pack_bytes(PLACES, unpack_all(places))
    end
    return concat(texts), at
  end
end
