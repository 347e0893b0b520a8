-- Apply one contiguous batch of one topic partition, atomically: fence, as-of snapshot, counters, label join, outbox.
--
-- KEYS  1 fence  2 pending  3 waiting  4 due  5 outbox  6 dirty  7 dead  8 learned
-- ARGV  1 user key prefix  2 item key prefix  3 epoch  4 topic  5 first offset  6 last offset
--       7 records (msgpack)  8 options (msgpack)  9 idle topics (msgpack)  10 watermark floor, ms (0: none)
--       11 cores of the impressions, one behind the other
--       12 last offset that the caller knows to be applied (-1: none); an older fence means an older Redis
-- first > last is a tick: nothing is fenced, only deadlines are handled.
-- User and item keys are made here from the batch's ids; they share the hash tag of KEYS, hence the slot.
--
-- Record: {kind, offset, ts, ...}
--   1 impression {1, offset, ts, imp, user, item, size}      size: of its core in ARGV[11], a msgpack array that is
--                copied into the sample unread (this cmsgpack knows no binary strings, so it travels outside)
--   2 feedback   {2, offset, ts, imp, user, item, action}        action: index into options.actions, from 1
--   3 heartbeat  {3, offset, ts}
--   0 malformed  {0, offset, 0}                               already in the dead-letter topic; counted here
-- Sample: [kind, label, delay_ms, core, state]; kinds: 0 negative, 1 positive, 2 correction
-- Returns {outcome, offset in force, outbox sequence, trained sequence, more deadlines (0/1), stored epoch}

local IMPRESSION, FEEDBACK, HEARTBEAT = 1, 2, 3
local NEGATIVE, POSITIVE, CORRECTION = 0, 1, 2
local HELD, EMITTED_NEGATIVE, EMITTED_POSITIVE, CORRECTED = 0, 1, 2, 3
local UNSAMPLED, DROPPED = 4, 5 -- held, but of no use as a negative; and its window has closed
local HEADER = '>BBdd' -- label bits, phase, event time, time of the first positive (0: none)
local HEADER_SIZE = 18

local call, pack, unpack_all = redis.call, cmsgpack.pack, unpack
local fence, pending, waiting, due, outbox, dirty, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local user_prefix, item_prefix = ARGV[1], ARGV[2]
local epoch, topic, first, last = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local options = cmsgpack.unpack(ARGV[8])
local actions, topics = options.actions, options.topics
local window, attribution, lateness = options.window_ms, options.attribution_ms, options.lateness_ms
local num_actions = #actions

-- Fence ---------------------------------------------------------------------------------------------------------

local fence_fields = {'epoch', 'offset:' .. topic, 'seq', 'watermark', 'jump_ts:' .. topic, 'jump_n:' .. topic}
for i, name in ipairs(topics) do fence_fields[6 + i] = 'max_ts:' .. name end
local stored = call('HMGET', fence, unpack_all(fence_fields))
local stored_epoch = tonumber(stored[1]) or 0
local offset = tonumber(stored[2]) or -1
local seq = tonumber(stored[3]) or 0
local watermark = tonumber(stored[4]) or false
local learned = tonumber(call('GET', KEYS[8])) or 0
local tick = first > last
if epoch < stored_epoch then return {'ZOMBIE', offset, seq, learned, 0, stored_epoch} end
if offset < tonumber(ARGV[12]) then return {'ROLLBACK', offset, seq, learned, 0, stored_epoch} end
if not tick then
  if last <= offset then return {'DUP', offset, seq, learned, 0, stored_epoch} end
  if first <= offset then return {'OVERLAP', offset, seq, learned, 0, stored_epoch} end
end

-- Counters of the join, written with the fence, so they count each record once ------------------------------------

local counts = {}
local function count(name, n) counts[name] = (counts[name] or 0) + (n or 1) end

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

-- User and item state: read once per batch, written once at the end ---------------------------------------------

local user_fields, item_fields = {'impressions'}, {'impressions'}
for i = 1, num_actions do
  user_fields[i + 1], item_fields[i + 1] = actions[i], actions[i]
  item_fields[num_actions + 2 + i] = 'other:' .. actions[i]
end
item_fields[num_actions + 2] = 'other:impressions'
for _, name in ipairs({'norm', 'norm_version', 'first_ts', 'last_ts'}) do user_fields[#user_fields + 1] = name end
item_fields[#item_fields + 1], item_fields[#item_fields + 2] = 'norm', 'norm_version'

local users, items = {}, {}

local function user_state(id)
  local state = users[id]
  if not state then
    local v = call('HMGET', user_prefix .. id, unpack_all(user_fields))
    state = {own = {}}
    for i = 1, num_actions + 1 do state.own[i] = tonumber(v[i]) or 0 end
    local at = num_actions + 1
    state.norm, state.version = tonumber(v[at + 1]) or 0, tonumber(v[at + 2]) or 0
    state.first_ts, state.last_ts = tonumber(v[at + 3]) or 0, tonumber(v[at + 4]) or 0
    users[id] = state
  end
  return state
end

local function item_state(id)
  local state = items[id]
  if not state then
    local v = call('HMGET', item_prefix .. id, unpack_all(item_fields))
    state = {own = {}, other = {}}
    for i = 1, num_actions + 1 do
      state.own[i], state.other[i] = tonumber(v[i]) or 0, tonumber(v[num_actions + 1 + i]) or 0
    end
    local at = 2 * (num_actions + 1)
    state.norm, state.version = tonumber(v[at + 1]) or 0, tonumber(v[at + 2]) or 0
    items[id] = state
  end
  return state
end

-- [user counts, norm, norm version, first event time, item counts, norm, norm version, negative rate if not 1], before
-- this impression
local function snapshot(user, item, rate)
  local item_counts = {}
  for i = 1, num_actions + 1 do item_counts[i] = item.own[i] + item.other[i] end
  local state = {user.own, user.norm, user.version, user.first_ts, item_counts, item.norm, item.version}
  if rate < 1 then state[8] = rate end
  return pack(state)
end

-- Share of the impressions like this one that may become negatives, and whether this one may. Chosen by its id, so that
-- a batch that comes again chooses the same.
local function sampling(imp, user)
  local rate = options.negative_rate
  if rate == 1 or user.own[1] < options.negative_rate_from then return 1, true end
  return rate, tonumber(string.sub(redis.sha1hex(imp), 1, 8), 16) < rate * 4294967296
end

-- Outbox --------------------------------------------------------------------------------------------------------

local samples = {}
local function emit(kind, label, delay, body)
  samples[#samples + 1] = '\149' .. pack(kind, label, delay) .. body
  count(kind == POSITIVE and 'positive' or kind == NEGATIVE and 'negative' or 'correction')
end

local function give_up(reason, from_topic, from_offset, event)
  call('XADD', dead, '*', 'reason', reason, 'topic', from_topic, 'offset', from_offset, 'event', pack(event))
end

-- Join ----------------------------------------------------------------------------------------------------------

local function orphan(reason, fb)
  count('orphan')
  give_up(reason, topics[2], fb[2], {type = 'feedback', ts = fb[3], imp_id = fb[4], user_id = fb[5], item_id = fb[6],
    action = actions[fb[7]]})
end

-- Feedback meets its impression. Whether it makes a positive or a correction is decided by event time alone, so that
-- it does not depend on which topic was read first.
local function match(fb, held)
  local bits, phase, ts, positive_ts = struct.unpack(HEADER, held)
  local delay, mask = fb[3] - ts, bit.lshift(1, fb[7] - 1)
  if delay > attribution or delay < -lateness then
    orphan('outside the attribution window of its impression', fb)
    return held
  end
  if bit.band(bits, mask) ~= 0 then
    count('duplicate_feedback')
    return held
  end
  bits = bit.bor(bits, mask)
  local user, item, i = user_state(fb[5]), item_state(fb[6]), fb[7] + 1
  user.own[i], item.own[i] = user.own[i] + 1, item.own[i] + 1
  item.changed = true
  count('matched')
  local body = string.sub(held, HEADER_SIZE + 1)
  if bit.band(mask, options.positive_mask) ~= 0 then
    if positive_ts == 0 or fb[3] < positive_ts then positive_ts = fb[3] end
    if phase == EMITTED_NEGATIVE then
      emit(CORRECTION, 1, delay, body)
      phase = CORRECTED
    elseif phase == DROPPED then
      -- There is no negative to correct.
      count('dropped', -1)
      emit(POSITIVE, 1, delay, body)
      phase = EMITTED_POSITIVE
    elseif (phase == HELD or phase == UNSAMPLED) and delay <= window and options.early_positives then
      emit(POSITIVE, 1, delay, body)
      phase = EMITTED_POSITIVE
    end
  end
  return struct.pack(HEADER, bits, phase, ts, positive_ts) .. body
end

local core_at = 1
local function on_impression(r)
  local ts, imp = r[3], r[4]
  local core = string.sub(ARGV[11], core_at, core_at + r[7] - 1)
  core_at = core_at + r[7]
  count('impressions')
  if not in_time(ts) then
    count('late')
    give_up('late impression', topic, r[2], {type = 'impression', ts = ts, imp_id = imp, user_id = r[5], item_id = r[6]})
    return
  end
  if call('HEXISTS', pending, imp) == 1 then
    count('duplicate_impression')
    return
  end
  local user, item = user_state(r[5]), item_state(r[6])
  local rate, chosen = sampling(imp, user)
  local body, phase, deadline = core .. snapshot(user, item, rate), chosen and HELD or UNSAMPLED, ts + window
  if options.mode == 'immediate' then
    deadline = ts + attribution
    if chosen then
      emit(NEGATIVE, 0, -1, body)
      phase = EMITTED_NEGATIVE
    else
      count('dropped')
      phase = DROPPED
    end
  end
  local held = struct.pack(HEADER, 0, phase, ts, 0) .. body
  user.own[1], item.own[1] = user.own[1] + 1, item.own[1] + 1
  if user.first_ts == 0 or ts < user.first_ts then user.first_ts = ts end
  if ts > user.last_ts then user.last_ts = ts end
  item.changed = true
  count('accepted')
  local early = call('HGET', waiting, imp)
  if early then
    for _, fb in ipairs(cmsgpack.unpack(early)) do held = match(fb, held) end
    call('HDEL', waiting, imp)
    call('ZREM', due, 'f:' .. imp)
  end
  call('HSET', pending, imp, held)
  call('ZADD', due, deadline, 'i:' .. imp)
end

local function on_feedback(r)
  local ts, imp = r[3], r[4]
  count('feedback')
  if not in_time(ts) then
    count('late')
    give_up('late feedback', topic, r[2], {type = 'feedback', ts = ts, imp_id = imp, user_id = r[5], item_id = r[6],
      action = actions[r[7]]})
    return
  end
  local held = call('HGET', pending, imp)
  if held then
    call('HSET', pending, imp, match(r, held))
    return
  end
  local others = call('HGET', waiting, imp)
  local list = others and cmsgpack.unpack(others) or {}
  list[#list + 1] = r
  call('HSET', waiting, imp, pack(list))
  call('ZADD', due, 'LT', ts + lateness, 'f:' .. imp)
end

local function close_window(imp, score)
  local held = call('HGET', pending, imp)
  local bits, phase, ts, positive_ts = struct.unpack(HEADER, held)
  if phase == HELD or phase == UNSAMPLED then
    local body = string.sub(held, HEADER_SIZE + 1)
    if positive_ts > 0 and (positive_ts - ts <= window or phase == UNSAMPLED) then
      emit(POSITIVE, 1, positive_ts - ts, body)
      phase = EMITTED_POSITIVE
    elseif phase == UNSAMPLED then
      count('dropped')
      phase = DROPPED
    else
      emit(NEGATIVE, 0, -1, body)
      phase = EMITTED_NEGATIVE
      if positive_ts > 0 then
        emit(CORRECTION, 1, positive_ts - ts, body)
        phase = CORRECTED
      end
    end
    call('HSET', pending, imp, struct.pack(HEADER, bits, phase, ts, positive_ts) .. body)
  end
  if score < ts + attribution then
    call('ZADD', due, ts + attribution, 'i:' .. imp)
  else
    call('HDEL', pending, imp)
    call('ZREM', due, 'i:' .. imp)
  end
end

local function expire_waiting(imp)
  local rest, next_due = {}, false
  for _, fb in ipairs(cmsgpack.unpack(call('HGET', waiting, imp))) do
    local deadline = fb[3] + lateness
    if deadline < watermark then
      orphan('no impression for it', fb)
    else
      rest[#rest + 1] = fb
      next_due = next_due and math.min(next_due, deadline) or deadline
    end
  end
  if next_due then
    call('HSET', waiting, imp, pack(rest))
    call('ZADD', due, next_due, 'f:' .. imp)
  else
    call('HDEL', waiting, imp)
    call('ZREM', due, 'f:' .. imp)
  end
end

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

-- Write back ----------------------------------------------------------------------------------------------------

for id, s in pairs(users) do
  local values = {'first_ts', s.first_ts, 'last_ts', s.last_ts, 'impressions', s.own[1]}
  for i = 1, num_actions do
    values[#values + 1] = actions[i]
    values[#values + 1] = s.own[i + 1]
  end
  call('HSET', user_prefix .. id, unpack_all(values))
  call('EXPIRE', user_prefix .. id, options.user_ttl_s)
end
local changed = {}
for id, s in pairs(items) do
  if s.changed then
    local values = {'impressions', s.own[1]}
    for i = 1, num_actions do
      values[#values + 1] = actions[i]
      values[#values + 1] = s.own[i + 1]
    end
    call('HSET', item_prefix .. id, unpack_all(values))
    call('EXPIRE', item_prefix .. id, options.item_ttl_s)
    changed[#changed + 1] = id
  end
end
for i = 1, #changed, 4000 do call('SADD', dirty, unpack_all(changed, i, math.min(i + 3999, #changed))) end

local n = #samples
if n > 0 then
  seq = seq + n
  call('XADD', outbox, string.format('%.0f-0', seq), 's', '\221' .. struct.pack('>I4', n) .. table.concat(samples))
end

local values = {'epoch', epoch, 'seq', seq}
if watermark then values[5], values[6] = 'watermark', watermark end
if not tick then
  for _, v in ipairs({'offset:' .. topic, last, 'jump_ts:' .. topic, jump_ts, 'jump_n:' .. topic, jump_n}) do
    values[#values + 1] = v
  end
  if max_ts[topic_index] then
    values[#values + 1], values[#values + 2] = 'max_ts:' .. topic, max_ts[topic_index]
  end
end
local outcome = 'OK'
if not tick and stored[2] and first > offset + 1 then
  outcome = 'GAP'
  count('gap', first - offset - 1)
end
call('HSET', fence, unpack_all(values))
for name, k in pairs(counts) do call('HINCRBY', fence, 'n:' .. name, k) end
return {outcome, tick and offset or last, seq, learned, more, epoch}
