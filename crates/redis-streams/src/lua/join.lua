-- Enters a worker, and makes what is not there: stream, group, consumer.
-- ARGV  6 ms that it counts as alive, 7 where a new group begins: 0 or $
-- Reply: the order that the group's workers keep; it has joined if that is its own
local made = redis.pcall('XGROUP', 'CREATE', stream, group, ARGV[7], 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP') then
  return made
end
local kept = redis.call('HGET', settings, 'order')
if kept and kept ~= order and redis.call('ZCOUNT', alive, now, '+inf') > 0 then
  return kept
end
if kept and kept ~= order then
  -- What waits in the lanes of another order is swept up as left behind.
  redis.call('DEL', lanes)
end
redis.call('HSET', settings, 'order', order)
redis.call('XGROUP', 'CREATECONSUMER', stream, group, me)
redis.call('ZADD', alive, now + tonumber(ARGV[6]), me)
return order
