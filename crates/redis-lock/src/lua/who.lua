-- Tells who holds a lock. Writes nothing.
-- KEYS  1 the lock, 2 its readers, 3 their labels
-- Reply {the server's time in ms, the lock's value or '', ms until it ends, then for each reader: owner, end, label}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reply = {now, redis.call('GET', KEYS[1]) or '', redis.call('PTTL', KEYS[1])}
local readers = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf', 'WITHSCORES')
for i = 1, #readers, 2 do
  reply[#reply + 1] = readers[i]
  reply[#reply + 1] = readers[i + 1]
  reply[#reply + 1] = redis.call('HGET', KEYS[3], readers[i]) or ''
end
return reply
