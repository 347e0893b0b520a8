
-- User and item state: read once per batch; what changed of it is written once, at the end -----------------------

local user_fields, item_fields = {'impressions'}, {'impressions'}
for i = 1, num_actions do
  user_fields[i + 1], item_fields[i + 1] = actions[i], actions[i]
  item_fields[num_actions + 2 + i] = 'other:' .. actions[i]
end
item_fields[num_actions + 2] = 'other:impressions'
for _, name in ipairs({'norm', 'norm_version', 'first_ts', 'last_ts'}) do user_fields[#user_fields + 1] = name end
item_fields[#item_fields + 1], item_fields[#item_fields + 2] = 'norm', 'norm_version'
for _, history in ipairs(histories) do user_fields[#user_fields + 1] = history.field end

local users, items = {}, {}

local function user_state(id)
  local state = users[id]
  if not state then
    local v = call('HMGET', user_prefix .. id, unpack_all(user_fields))
    state = {own = {}, changed = {}}
    for i = 1, num_actions + 1 do state.own[i] = tonumber(v[i]) or 0 end
    local at = num_actions + 1
    state.norm, state.version = tonumber(v[at + 1]) or 0, tonumber(v[at + 2]) or 0
    state.first_ts, state.last_ts = tonumber(v[at + 3]) or 0, tonumber(v[at + 4]) or 0
    if num_histories > 0 then
      state.histories = {}
      for h = 1, num_histories do state.histories[h] = v[at + 4 + h] or '' end
    end
    users[id] = state
  end
  return state
end

local function item_state(id)
  local state = items[id]
  if not state then
    local v = call('HMGET', item_prefix .. id, unpack_all(item_fields))
    state = {own = {}, other = {}, changed = {}}
    for i = 1, num_actions + 1 do
      state.own[i], state.other[i] = tonumber(v[i]) or 0, tonumber(v[num_actions + 1 + i]) or 0
    end
    local at = 2 * (num_actions + 1)
    state.norm, state.version = tonumber(v[at + 1]) or 0, tonumber(v[at + 2]) or 0
    items[id] = state
  end
  return state
end

-- One more of what a user or an item is counted for: 1 impressions, n + 1 the n-th action.
local function count_one(state, i)
  state.own[i] = state.own[i] + 1
  state.changed[i] = true
end

-- User counts, norm, norm version, first and last event time; item counts, norm, norm version; negative rate: before
-- this impression.
local COUNTS = string.rep('I4', num_actions + 1)
local STATE = '<' .. COUNTS .. 'fI4dd' .. COUNTS .. 'fI4d'

local function snapshot(user, item, rate)
  local n = num_actions + 1
  local v = {unpack_all(user.own, 1, n)}
  v[n + 1], v[n + 2], v[n + 3], v[n + 4] = user.norm, user.version, user.first_ts, user.last_ts
  for i = 1, n do v[n + 4 + i] = item.own[i] + item.other[i] end
  v[2 * n + 5], v[2 * n + 6], v[2 * n + 7] = item.norm, item.version, rate
  return pack_bytes(STATE, unpack_all(v))
end

-- Share of the impressions like this one that may become negatives, and whether this one may. Chosen by its id, so that
-- a batch that comes again chooses the same.
local function sampling(imp, user)
  local rate = options.negative_rate
  if rate == 1 or user.own[1] < options.negative_rate_from then return 1, true end
  return rate, tonumber(sub(redis.sha1hex(imp), 1, 8), 16) < rate * 4294967296
end
