-- Say which weights are kept, unless a newer owner has announced itself; what is kept no more expires.
-- KEYS 1 list  2 epoch  3 ... blobs that go   ARGV 1 list (JSON)  2 owner epoch  3 seconds that the blobs still last
-- Returns 1; 0: a newer owner
if (tonumber(redis.call('GET', KEYS[2])) or 0) > tonumber(ARGV[2]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1])
for at = 3, #KEYS do redis.call('EXPIRE', KEYS[at], ARGV[3]) end
return 1
