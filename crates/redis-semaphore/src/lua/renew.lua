#!lua flags=allow-oom
-- Renews many permits. What is gone is left as it is.
-- KEYS  for each permit: 1 owner -> end, 2 owner -> what else is known
-- ARGV  for each permit: 1 owner, 2 time to live in ms
-- Reply for each permit 1 renewed or 0 not held
-- It takes no more memory, so a server that is out of it may run it: ZADD alone would be refused.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reply = {}
for i = 1, #KEYS, 2 do
  local owner, ttl = ARGV[i], tonumber(ARGV[i + 1])
  -- A key of another type must not fail the whole batch.
  local ends, known = redis.pcall('ZSCORE', KEYS[i], owner), redis.pcall('HEXISTS', KEYS[i + 1], owner)
  local held = type(ends) == 'string' and tonumber(ends) > now and known == 1
  if held then
    redis.call('ZADD', KEYS[i], now + ttl, owner)
    for k = i, i + 1 do
      if redis.call('PTTL', KEYS[k]) < ttl then
        redis.call('PEXPIRE', KEYS[k], ttl)
      end
    end
  end
  reply[#reply + 1] = held and 1 or 0
end
return reply
