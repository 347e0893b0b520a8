-- Write what a call has changed that was joined in a worker's memory (`stream/join`), atomically, if the fence is still
-- what it was when that began.
--
-- KEYS  1 fence  2 waiting  3 due  4 outbox  5 dirty  6 dead  7 bodies  8 labels  9 arrivals
-- ARGV  1 epoch  2 fields of the fence (msgpack)  3 their values (msgpack; '': not there)  4 commands, as
--       `stream/join/writes.py` says
-- Returns {1, keys of which fields were made anew that should have been there}; {0, stored epoch} if something else has
--   written since
local call, unpack_bytes, unpack_all = redis.call, struct.unpack, unpack
local COMMANDS = {[0] = 'HDEL', 'HSET', 'ZREM', 'ZADD', 'SADD', 'XADD', 'EXPIRE', 'HINCRBY'}
local ANY = 255

local stored_epoch = tonumber(call('HGET', KEYS[1], 'epoch')) or 0
if tonumber(ARGV[1]) < stored_epoch then return {0, stored_epoch} end
local expected = cmsgpack.unpack(ARGV[3])
for i, value in ipairs(call('HMGET', KEYS[1], unpack_all(cmsgpack.unpack(ARGV[2])))) do
  if (value or '') ~= expected[i] then return {0, stored_epoch} end
end

local data, at, formats, lost = ARGV[4], 1, {}, {}
local size = #data
while at <= size do
  local command, key, num, num_new
  command, key, num, num_new, at = unpack_bytes('<BBHB', data, at)
  local format = formats[num]
  if not format then
    format = '<' .. string.rep('I4c0', num)
    formats[num] = format
  end
  local arguments = {unpack_bytes(format, data, at)}
  at = arguments[num + 1]
  arguments[num + 1] = nil
  if key > 0 then
    call(COMMANDS[command], KEYS[key], unpack_all(arguments, 1, num))
  else
    local made = call(COMMANDS[command], unpack_all(arguments, 1, num))
    if num_new ~= ANY and made > num_new then lost[#lost + 1] = arguments[1] end
  end
end
-- A hash whose last value that says something has gone is left with the one that keeps it wide.
for _, key in ipairs({KEYS[2], KEYS[8]}) do
  if call('HLEN', key) == 1 and call('HEXISTS', key, '') == 1 then call('DEL', key) end
end
return {1, lost}
