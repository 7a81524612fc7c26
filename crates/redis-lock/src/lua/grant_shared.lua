-- Grants a share of a lock to one reader, unless it is held exclusively or somebody waits to hold it so.
-- KEYS  1 the lock, 2 its fencing counter, 3 its readers, 4 who waits for it, 5 the readers' labels
-- ARGV  1 owner, 2 time to live in ms, 3 tokens to reserve, 4 ms that a mark of the waiter is to stand (0: none), 5 label
-- Reply {1, first token} granted; {0, ms until it ends unless renewed, or -1} refused
local owner, ttl, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function lasts(key)
  if redis.call('PTTL', key) < ttl then
    redis.call('PEXPIRE', key, ttl)
  end
end

-- Asked again by the same owner: the reply to its first request was lost.
local mine, label = redis.call('ZSCORE', KEYS[3], owner), redis.call('HGET', KEYS[5], owner)
if mine and label and tonumber(mine) > now then
  redis.call('ZADD', KEYS[3], now + ttl, owner)
  lasts(KEYS[3])
  lasts(KEYS[5])
  return {1, tonumber(string.match(label, '^(%d+)'))}
end

local in_the_way
if redis.call('GET', KEYS[1]) then
  in_the_way = KEYS[1]
else
  local waiting = redis.call('GET', KEYS[4])
  if waiting and waiting ~= 'reader' then
    in_the_way = KEYS[4]
  end
end
if in_the_way then
  if ARGV[4] ~= '0' then
    redis.call('SET', KEYS[4], 'reader', 'NX', 'PX', ARGV[4])
  end
  return {0, redis.call('PTTL', in_the_way)}
end

local gone = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 1000)
if #gone > 0 then
  redis.call('ZREM', KEYS[3], unpack(gone))
  redis.call('HDEL', KEYS[5], unpack(gone))
end

local last = redis.call('INCRBY', KEYS[2], count)
if last > 9007199254740991 then
  return redis.error_reply('ERR the fencing counter is used up: delete ' .. KEYS[2] .. ' when nothing holds an old token')
end
local first = last - count + 1
redis.call('ZADD', KEYS[3], now + ttl, owner)
redis.call('HSET', KEYS[5], owner, string.format('%.0f %.0f %s', first, now, ARGV[5]))
lasts(KEYS[3])
lasts(KEYS[5])
return {1, first}
