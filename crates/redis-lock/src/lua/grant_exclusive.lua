-- Grants the locks of one or several names to one owner: all of them or none.
-- KEYS  for each name: 1 the lock, 2 its fencing counter, 3 its readers, 4 who waits for it
-- ARGV  1 owner, 2 time to live in ms, 3 tokens to reserve, 4 ms that a mark of the waiter is to stand (0: none), 5 label
-- Reply {1, first token} granted; {0, ms until it ends unless renewed, or -1} refused
local owner, ttl, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local mine, first, blocked, ends = 0, nil, false, -1
for i = 1, #KEYS, 4 do
  local value = redis.call('GET', KEYS[i])
  if value and string.sub(value, 1, 32) == owner then
    mine = mine + 1
    first = string.match(value, ' (%d+)')
  elseif value then
    blocked = true
    ends = math.max(ends, redis.call('PTTL', KEYS[i]))
  end
  local reader = redis.call('ZREVRANGE', KEYS[i + 2], 0, 0, 'WITHSCORES')
  if reader[2] and tonumber(reader[2]) > now then
    blocked = true
    ends = math.max(ends, reader[2] - now)
  end
end

if blocked then
  for i = 1, #KEYS, 4 do
    -- None means none: what is left of a grant whose reply was lost, and that others broke into since.
    if mine > 0 and string.sub(redis.call('GET', KEYS[i]) or '', 1, 32) == owner then
      redis.call('DEL', KEYS[i])
    end
    if ARGV[4] ~= '0' then
      redis.call('SET', KEYS[i + 3], owner, 'PX', ARGV[4])
    end
  end
  return {0, ends}
end

-- Asked again by the same owner: the reply to its first request was lost.
if mine * 4 == #KEYS then
  for i = 1, #KEYS, 4 do
    redis.call('PEXPIRE', KEYS[i], ttl)
  end
  return {1, tonumber(first)}
end

local last = 0
for i = 1, #KEYS, 4 do
  last = math.max(last, redis.call('INCRBY', KEYS[i + 1], count))
end
if last > 9007199254740991 then
  return redis.error_reply('ERR the fencing counter is used up: delete ' .. KEYS[2] .. ' when nothing holds an old token')
end
first = last - count + 1
local value = string.format('%s %.0f %.0f %s', owner, first, now, ARGV[5])
for i = 1, #KEYS, 4 do
  if #KEYS > 4 then
    redis.call('SET', KEYS[i + 1], string.format('%.0f', last))
  end
  redis.call('SET', KEYS[i], value, 'PX', ttl)
  local waiter = redis.pcall('GET', KEYS[i + 3]) -- pcall: once a lock is set, nothing may fail
  -- Over a quorum the last eight digits of an owner are those of the attempt.
  if type(waiter) == 'string' and string.sub(waiter, 1, 24) == string.sub(owner, 1, 24) then
    redis.call('DEL', KEYS[i + 3])
  end
end
return {1, first}
