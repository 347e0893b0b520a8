-- Items that a roll-up is to bring to the other partitions: those that changed, and those that an earlier one has left
-- half-way. They stay in `rolling` until one that took all of them has ended; what changes from now on is dirty again.
-- KEYS 1 fence  2 dirty  3 rolling
-- Returns {number of the roll-up, items}; {0, {}} if there are none
local call = redis.call
if call('EXISTS', KEYS[2]) == 1 then
  if call('EXISTS', KEYS[3]) == 1 then
    call('SUNIONSTORE', KEYS[3], KEYS[3], KEYS[2])
    call('DEL', KEYS[2])
  else
    call('RENAME', KEYS[2], KEYS[3])
  end
end
local items = call('SMEMBERS', KEYS[3])
return {#items > 0 and call('HINCRBY', KEYS[1], 'takes', 1) or 0, items}
