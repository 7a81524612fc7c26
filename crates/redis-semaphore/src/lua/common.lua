-- What the scripts of a semaphore share.
-- KEYS  1 the semaphore, 2 owner -> end of its permit, 3 owner -> "weight token since label",
--       4 owner -> its number in the queue, 5 owner -> "end of its place weight since channel label"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function number(n)
  return string.format('%.0f', n)
end

local function lasts(key, ttl)
  if redis.call('PTTL', key) < ttl then
    redis.call('PEXPIRE', key, ttl)
  end
end

local function weight_of(owner)
  return tonumber(string.match(redis.call('HGET', KEYS[3], owner) or '', '^(%d+)')) or 1
end

-- Drops permits that have ended, a thousand a call, and tells their weight.
local function prune()
  local freed, gone = 0, redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1000)
  for _, owner in ipairs(gone) do
    freed = freed + weight_of(owner)
    redis.call('ZREM', KEYS[2], owner)
    redis.call('HDEL', KEYS[3], owner)
  end
  return freed
end

-- The weight of all permits, one by one.
local function recount()
  local sum = 0
  for _, owner in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    sum = sum + weight_of(owner)
  end
  return sum
end

-- The first in the queue that is alive. The dead before it are dropped.
local function head()
  while true do
    local first = redis.call('ZRANGE', KEYS[4], 0, 0)[1]
    if not first then
      return nil
    end
    local place = redis.call('HGET', KEYS[5], first)
    if place and tonumber(string.match(place, '^(%d+)')) > now then
      return first, place
    end
    redis.call('ZREM', KEYS[4], first)
    redis.call('HDEL', KEYS[5], first)
  end
end

-- Tells the first in the queue that it is worth asking. A message that cannot be sent must not undo what it is about.
local function wake()
  local first, place = head()
  local channel = place and string.match(place, '^%d+ %d+ %d+ (%S+)')
  if channel then
    redis.pcall(string.sub(channel, 1, 1) == '{' and 'SPUBLISH' or 'PUBLISH', channel, first)
  end
end

-- What the semaphore's key says, or an error if that is not of this version.
local function read()
  local meta = redis.call('HMGET', KEYS[1], 'version', 'form', 'limit', 'used', 'reviewed')
  if meta[1] ~= '1' and (meta[1] or redis.call('EXISTS', KEYS[1]) == 1 or redis.call('EXISTS', KEYS[4]) == 1) then
    return nil, {-2, meta[1] or 'none'}
  end
  return meta
end
