-- Raises fencing counters that are below a token to it.
-- KEYS  for each name: its fencing counter
-- ARGV  1 token
-- Reply how many were below it
local below = 0
for i = 1, #KEYS do
  if tonumber(redis.call('GET', KEYS[i]) or 0) < tonumber(ARGV[1]) then
    redis.call('SET', KEYS[i], ARGV[1])
    below = below + 1
  end
end
return below
