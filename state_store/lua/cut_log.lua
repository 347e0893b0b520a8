-- Move a fence back to the end of a log that has become shorter.
-- KEYS 1 fence   ARGV 1 epoch  2 topic  3 end of the log
if (tonumber(redis.call('HGET', KEYS[1], 'epoch')) or 0) ~= tonumber(ARGV[1]) then return 0 end
local field, last = 'offset:' .. ARGV[2], tonumber(ARGV[3]) - 1
local offset = tonumber(redis.call('HGET', KEYS[1], field)) or -1
if offset <= last then return 0 end
redis.call('HSET', KEYS[1], field, last)
redis.call('HINCRBY', KEYS[1], 'n:cut', offset - last)
return 1
