-- Takes items out of the stock for an order, all or none. Asked again for the same order, it takes nothing more.
-- KEYS  1 the stock: how many there are of each item, 2 the orders that have theirs
-- ARGV  1 the order, then an item and how many of it, as often as needed
-- Reply 1 reserved, 0 not enough of something: nothing was taken
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
  return 1
end
for i = 2, #ARGV, 2 do
  if tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0) < tonumber(ARGV[i + 1]) then
    return 0
  end
end
for i = 2, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[1], ARGV[i], -ARGV[i + 1])
end
redis.call('HSET', KEYS[2], ARGV[1], 1)
return 1
