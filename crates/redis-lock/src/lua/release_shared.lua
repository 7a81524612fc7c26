-- Gives a reader's share back, if it is still its own.
-- KEYS  1 the readers, 2 their labels, 3 who waits for the lock
-- ARGV  1 owner
-- Reply {2 released, 0 gone; ms that the newest waiter's mark still stands, or less than 0}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = redis.pcall('ZSCORE', KEYS[1], ARGV[1]) -- in a key of another type there is nothing of ours
local held = type(ends) == 'string' and tonumber(ends) > now
if type(ends) == 'string' then
  redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.pcall('HDEL', KEYS[2], ARGV[1])
return {held and 2 or 0, redis.call('PTTL', KEYS[3])}
