
-- Event time ----------------------------------------------------------------------------------------------------

local max_ts, topic_index = {}, 0
for i, name in ipairs(topics) do
  max_ts[i] = tonumber(stored[6 + i]) or false
  if name == topic then topic_index = i end
end
local jump_ts, jump_n = tonumber(stored[5]) or 0, tonumber(stored[6]) or 0

-- Moves this topic's greatest event time; false if the record is late by the order of its own topic, a verdict that
-- neither batching nor the other topic can change. A leap is believed once several records in a row agree on it.
local function in_time(ts)
  local top = max_ts[topic_index]
  if not top then
    max_ts[topic_index] = ts
  elseif ts > top + options.max_jump_ms then
    jump_n = jump_n + 1
    jump_ts = jump_n == 1 and ts or math.min(jump_ts, ts)
    if jump_n >= options.jump_confirmations then max_ts[topic_index], jump_n = jump_ts, 0 end
  else
    jump_n = 0
    if ts > top then max_ts[topic_index] = ts end
    return ts >= top - lateness
  end
  return true
end
