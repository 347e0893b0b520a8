
-- User and item state: read once per batch; what changed of it is written once, at the end -----------------------
--
-- It is the list of what was read, as numbers. Of a user: own counts (impressions, then the actions), norm, its version,
-- first and last event time. Of an item: own counts, those of the other partitions, norm, its version. Last of both: in
-- which sixteenth of its life it was given its life anew.

local num_counts = num_actions + 1
local user_fields, item_fields = {'impressions'}, {'impressions'}
for i = 1, num_actions do
  user_fields[i + 1], item_fields[i + 1] = actions[i], actions[i]
  item_fields[num_counts + 1 + i] = 'other:' .. actions[i]
end
item_fields[num_counts + 1] = 'other:impressions'
for _, name in ipairs({'norm', 'norm_version', 'first_ts', 'last_ts', 'renewed'}) do
  user_fields[#user_fields + 1] = name
end
for _, name in ipairs({'norm', 'norm_version', 'renewed'}) do item_fields[#item_fields + 1] = name end
local FIRST_TS, LAST_TS = num_counts + 3, num_counts + 4

local users, items = {}, {}

-- Tables that a batch makes by the hundred are made with room for what they will hold: a table that grows is made anew
-- at every power of two, at several times the cost of all that is put into it.

-- The first `num_numbers` of the fields are numbers. Of a user: what it did, and who shares a view of that.
local function read_entity(key, fields, num_numbers)
  local found = call('HMGET', key, unpack_all(fields))
  local state = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, changed = {false, false, false, false, false, false, false, false},
    histories = false, views = false, remembered = false}
  for i = 1, num_numbers do state[i] = tonumber(found[i]) or 0 end
  return state, found
end

local user_state
do
  -- Histories are no numbers: they are read behind those, and written where they have changed.
  local read_of_user, num_user_fields = {unpack_all(user_fields)}, #user_fields
  for h, history in ipairs(histories) do read_of_user[num_user_fields + h] = history.field end

  function user_state(id)
    local state = users[id]
    if not state then
      local found
      state, found = read_entity(user_prefix .. id, read_of_user, num_user_fields)
      if num_histories > 0 then
        state.histories, state.views = {false, false}, {false, false}
        for h = 1, num_histories do state.histories[h] = found[num_user_fields + h] or '' end
      end
      users[id] = state
    end
    return state
  end
end

local function item_state(id)
  local state = items[id]
  if not state then
    state = read_entity(item_prefix .. id, item_fields, #item_fields)
    items[id] = state
  end
  return state
end

local function set_value(state, i, value)
  state[i], state.changed[i] = value, true
end

-- One more of what a user or an item is counted for: 1 impressions, n + 1 the n-th action.
local function count_one(state, i)
  set_value(state, i, state[i] + 1)
end

local snapshot

do
  -- User counts, norm, norm version, first and last event time; item counts, norm, norm version; negative rate: before
  -- this impression.
  local STATE = '<' .. string.rep('I4', num_counts) .. 'fI4dd' .. string.rep('I4', num_counts) .. 'fI4d'
  local num_user, num_values = num_counts + 4, 2 * num_counts + 7
  local values = {} -- one after another's

  function snapshot(user, item, rate)
    local n = num_counts
    for i = 1, num_user do values[i] = user[i] end
    for i = 1, n do values[num_user + i] = item[i] + item[n + i] end
    values[num_values - 2], values[num_values - 1], values[num_values] = item[2 * n + 1], item[2 * n + 2], rate
    return pack_bytes(STATE, unpack_all(values, 1, num_values))
  end
end

-- Share of the impressions like this one that may become negatives, and whether this one may. Chosen by its id, so that
-- a batch that comes again chooses the same.
local function sampling(imp, user)
  local rate = options.negative_rate
  if rate == 1 or user[1] < options.negative_rate_from then return 1, true end
  return rate, tonumber(sub(redis.sha1hex(imp), 1, 8), 16) < rate * 4294967296
end
