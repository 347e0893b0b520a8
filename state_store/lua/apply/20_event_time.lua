-- Event time ----------------------------------------------------------------------------------------------------
--
-- One device's clock must not move the time of all. A topic's event time is the time that `time_users` (n) of the 2n - 1
-- users who came newest have reached, by the newest record of each: a majority of them. It never goes back. Which users
-- those are depends on the order of the topic partition alone, not on batches. A heartbeat is a producer's word and
-- needs nobody's consent.

local clocks, clock = {}, nil -- by topic; that of this batch's
local now = tonumber(ARGV[10])
local pack_claims, move_time, in_time

do
  local n_agree, num_claims = options.time_users, 2 * options.time_users - 1

  -- As JSON, so that every field of the fence is text; its numbers would lose digits, hence strings.
  local function unpack_claims(text)
    if not text then return {users = {}, ts = {}, oldest = 1} end
    local found = cjson.decode(text)
    for i, ts in ipairs(found.ts) do found.ts[i] = tonumber(ts) end
    return found
  end

  function pack_claims(claims)
    local times = {}
    for i, ts in ipairs(claims.ts) do times[i] = string.format('%.0f', ts) end
    return cjson.encode({users = claims.users, ts = times, oldest = claims.oldest})
  end

  for i, name in ipairs(topics) do
    local at = 4 * i + 1
    local claims = unpack_claims(stored[at + 2])
    clocks[i] = {claims = claims, top = tonumber(stored[at + 1]) or false, moved = tonumber(stored[at + 3]) or false,
      seen = tonumber(stored[at + 4]) or false}
    if name == topic then clock = clocks[i] end
  end

  function move_time(ts)
    clock.top, clock.moved = ts, now
  end

  -- A record of a user says that it is `ts`.
  local function claim(user, ts)
    local users, times = clock.claims.users, clock.claims.ts
    local at = 1
    while users[at] and users[at] ~= user do at = at + 1 end
    if at > num_claims then
      at = clock.claims.oldest
      clock.claims.oldest = at % num_claims + 1
    end
    users[at], times[at] = user, ts
    local top = clock.top or -1
    if ts <= top then return end
    local agreed, lowest = 0, ts
    for i = 1, #times do
      local claimed = times[i]
      if claimed > top then
        agreed = agreed + 1
        if claimed < lowest then lowest = claimed end
      end
    end
    if agreed == n_agree then
      move_time(lowest)
    elseif agreed > n_agree then
      local sorted = {unpack_all(times)}
      table.sort(sorted)
      move_time(sorted[#sorted - n_agree + 1])
    end
  end

  -- Whether a record is in time, or late by the order of its own topic: a verdict that neither batching nor the other
  -- topic can change.
  function in_time(user, ts)
    if n_agree > 1 then
      claim(user, ts)
    elseif ts > (clock.top or -1) then
      move_time(ts)
    end
    return not clock.top or ts >= clock.top - lateness
  end
end

-- The newest time that anybody of those who came last has claimed.
local function newest_claim(of)
  local newest = of.top
  for _, ts in ipairs(of.claims.ts) do
    if not newest or ts > newest then newest = ts end
  end
  return newest
end
