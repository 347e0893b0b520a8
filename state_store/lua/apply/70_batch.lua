
-- The batch -----------------------------------------------------------------------------------------------------

if not tick then
  for _, r in ipairs(cmsgpack.unpack(ARGV[7])) do
    local kind = r[1]
    if kind == IMPRESSION then on_impression(r)
    elseif kind == FEEDBACK then on_feedback(r)
    elseif kind == HEARTBEAT then
      count('heartbeat')
      if not max_ts[topic_index] or r[3] > max_ts[topic_index] then max_ts[topic_index] = r[3] end
      jump_n = 0
    else count('malformed') end
  end
end

-- The watermark: the least of the topics' greatest event times, less the allowed lateness. An idle topic does not
-- hold it back.
local idle, low = {}, false
for _, name in ipairs(cmsgpack.unpack(ARGV[9])) do idle[name] = true end
local known = true
for i, name in ipairs(topics) do
  if not idle[name] then
    if not max_ts[i] then known = false
    elseif not low or max_ts[i] < low then low = max_ts[i] end
  end
end
if known and low and (not watermark or low - lateness > watermark) then watermark = low - lateness end
local floor = tonumber(ARGV[10])
if floor > 0 and (not watermark or floor > watermark) then watermark = floor end

local more = 0
if watermark then
  local ready = call('ZRANGEBYSCORE', due, '-inf', '(' .. string.format('%.0f', watermark), 'WITHSCORES',
    'LIMIT', 0, options.release_limit)
  for i = 1, #ready, 2 do
    local member = ready[i]
    local imp = string.sub(member, 3)
    if string.sub(member, 1, 1) == 'i' then close_window(imp, tonumber(ready[i + 1])) else expire_waiting(imp) end
  end
  -- A closed window may be due again at once, for the end of its attribution.
  if #ready > 0 and call('ZCOUNT', due, '-inf', '(' .. string.format('%.0f', watermark)) > 0 then more = 1 end
end
