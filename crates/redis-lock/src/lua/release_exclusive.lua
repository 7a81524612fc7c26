-- Gives the locks of one or several names back, as far as they are the owner's.
-- KEYS  for each name: 1 the lock, 2 who waits for it
-- ARGV  1 owner
-- Reply {2 released, 1 another's, 0 gone; ms that the newest waiter's mark still stands, or less than 0}
local mine, others, wanted = 0, 0, -1
for i = 1, #KEYS, 2 do
  local value = redis.pcall('GET', KEYS[i])
  if type(value) == 'string' and string.sub(value, 1, 32) == ARGV[1] then
    redis.call('DEL', KEYS[i])
    mine = mine + 1
  elseif value then
    others = others + 1
  end
  wanted = math.max(wanted, redis.call('PTTL', KEYS[i + 1]))
end
if mine * 2 == #KEYS then
  return {2, wanted}
end
return {math.min(others, 1), wanted}
