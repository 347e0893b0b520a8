-- Embedding norms of one partition's users or items, with the version of the weights they came from: those that are in
-- force, or the next ones, for which they may be written several times. Nothing if another learner has taken over.
-- KEYS 1 owner  2 fence   ARGV 1 key prefix  2 version  3 {id, norm, ...} (msgpack)  4 ttl, s  5 owner's number (0: none)
-- Returns how many; -1: another owner
local mine = tonumber(ARGV[5])
if mine > 0 and (tonumber(redis.call('GET', KEYS[1])) or 0) > mine then return -1 end
-- Who keeps a partition's state in memory sees by this that its norms are others now.
redis.call('HINCRBY', KEYS[2], 'norms', 1)
local version, rows = tonumber(ARGV[2]), cmsgpack.unpack(ARGV[3])
for at = 1, #rows, 2 do
  local key = ARGV[1] .. rows[at]
  local old = tonumber(redis.call('HGET', key, 'norm_version')) or 0
  if version >= old then
    local num_new = redis.call('HSET', key, 'norm', rows[at + 1], 'norm_version', version)
    -- A hash that has been there is kept alive by those who count in it.
    if num_new > 0 then redis.call('EXPIRE', key, ARGV[4]) end
  end
end
return #rows / 2
