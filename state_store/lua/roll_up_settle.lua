-- A roll-up has ended: what it took is done with, unless another one took it, too, with more that it knows of.
-- KEYS 1 fence  2 rolling   ARGV 1 number of the roll-up
if redis.call('HGET', KEYS[1], 'takes') ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[2])
