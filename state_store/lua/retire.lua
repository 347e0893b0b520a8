-- Let chunks go that nothing names any more, unless a newer owner has announced itself.
-- KEYS 1 epoch  2 set of chunks that stay  3 ... chunks   ARGV 1 owner epoch  2 seconds that they still last  3 ... names
-- Returns 1; 0: a newer owner
if (tonumber(redis.call('GET', KEYS[1])) or 0) > tonumber(ARGV[1]) then return 0 end
for at = 3, #KEYS do
  redis.call('EXPIRE', KEYS[at], ARGV[2])
  redis.call('SREM', KEYS[2], ARGV[at])
end
return 1
