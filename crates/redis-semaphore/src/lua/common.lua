-- What all scripts of a semaphore share.
--
-- The keys of a name: 1 the semaphore (a hash: version, form, limit, token, arrivals, and by counter used and
-- reviewed), 2 owner -> end of its permit, 3 owner -> what else is known of its permit, 4 the queue (owner by place), 5
-- until when each waiter counts as alive, 6 what else is known of each waiter.
--
-- A permit's is 'weight token since confirmed label'. A waiter's is its weight, its limit or 0 for any, ms between its
-- signs of life, since when it waits, its channel, and its label, a line each.
local VERSION = '1'
local KEPT = 10000 -- ms that the queue outlasts its waiters' signs of life

local function keys_from(first)
  return {
    semaphore = KEYS[first], permits = KEYS[first + 1], holders = KEYS[first + 2],
    queue = KEYS[first + 3], alive = KEYS[first + 4], waiters = KEYS[first + 5],
  }
end

local function number(n)
  return string.format('%.0f', n)
end

-- What the semaphore's key says, or nothing and a refusal where that is of another version. Before its first use it has
-- no limit; by set it has no counter.
local function open(key)
  local has = redis.call('HMGET', key.semaphore, 'version', 'form', 'limit', 'used', 'reviewed')
  if has[1] ~= VERSION and (has[1] or redis.call('EXISTS', key.semaphore) == 1) then
    return nil, {-2, has[1] or 'none'}
  end
  return {
    form = has[2], limit = tonumber(has[3]), reviewed = tonumber(has[5]) or 0,
    counted = has[2] == 'counter' and tonumber(has[4]) or nil,
  }
end

-- What these owners' permits weigh. One of which that is not known counts for more than there is: it ends, since it is
-- not renewed.
local function weigh(key, owners)
  local sum = 0
  for at = 1, #owners, 1000 do
    for _, about in ipairs(redis.call('HMGET', key.holders, unpack(owners, at, math.min(at + 999, #owners)))) do
      sum = sum + (tonumber(string.match(about or '', '^%d+')) or math.huge)
    end
  end
  return sum
end

-- Adds up what is held.
local function review(key, semaphore)
  semaphore.used = weigh(key, redis.call('ZRANGE', key.permits, 0, -1))
  semaphore.reviewed = now
end

-- Drops permits that have ended, and finds what is held. A counter is believed for a second, unless it cannot be right.
local function count(key, semaphore)
  local counted = semaphore.counted
  repeat
    local ended = redis.call('ZRANGEBYSCORE', key.permits, '-inf', number(now), 'LIMIT', 0, 1000)
    if ended[1] then
      counted = counted and counted - weigh(key, ended)
      redis.call('ZREM', key.permits, unpack(ended))
      redis.call('HDEL', key.holders, unpack(ended))
    end
  until #ended < 1000
  local holders = counted and redis.call('ZCARD', key.permits)
  if counted and counted >= holders and (counted == 0 or holders > 0) and math.abs(now - semaphore.reviewed) < 1000 then
    semaphore.used = counted
  else
    review(key, semaphore)
  end
end

-- Writes the counter. Where memory is too short for that, nothing was granted either.
local function keep(key, semaphore)
  if semaphore.form == 'counter' then
    local used = semaphore.used < math.huge and number(semaphore.used) or ''
    redis.pcall('HSET', key.semaphore, 'used', used, 'reviewed', number(semaphore.reviewed))
  end
end

-- Lets a key last for at least so long.
local function lasts(key, ttl)
  if redis.call('PTTL', key) < ttl then
    redis.call('PEXPIRE', key, ttl)
  end
end

local function give(key, semaphore, owner, weight, ttl, confirmed, label)
  local token = redis.call('HINCRBY', key.semaphore, 'token', 1)
  if token > 9007199254740991 then
    error({err = 'ERR the fencing counter is used up: delete ' .. key.semaphore .. ' when nothing holds an old token'})
  end
  redis.call('ZADD', key.permits, number(now + ttl), owner)
  redis.call('HSET', key.holders, owner, string.format('%.0f %.0f %.0f %d ', weight, token, now, confirmed) .. label)
  lasts(key.permits, ttl)
  lasts(key.holders, ttl)
  semaphore.used = semaphore.used + weight
  return token
end

local function leave(key, owner)
  redis.call('ZREM', key.queue, owner)
  redis.call('ZREM', key.alive, owner)
  redis.call('HDEL', key.waiters, owner)
end

-- Tells a waiter that it has to ask. A message that cannot be sent must not undo what it is about.
local function tell(channel, owner)
  redis.pcall(string.sub(channel, 1, 1) == '{' and 'SPUBLISH' or 'PUBLISH', channel, owner)
end

local function waiter_of(key, owner)
  local weight, limit, beat, channel, label =
    string.match(redis.call('HGET', key.waiters, owner) or '', '^(%d+)\n(%d+)\n(%d+)\n%d+\n([^\n]*)\n(.*)$')
  return weight and {
    weight = tonumber(weight), limit = tonumber(limit), beat = tonumber(beat), channel = channel, label = label,
  }
end

-- Whether it cannot be served by the limit as it is.
local function is_refused(waiter, limit)
  return (waiter.limit ~= 0 and waiter.limit ~= limit) or waiter.weight > limit
end

-- Gives what is free to the head of the queue as long as that fits, each for as long as it may take to confirm that.
-- One that shows no sign of life meanwhile loses its permit as it would have lost its place.
local function serve(key, semaphore)
  while semaphore.used < semaphore.limit do
    local head = redis.call('ZRANGE', key.queue, 0, 0)[1]
    if not head then
      return
    end
    local waiter = waiter_of(key, head)
    if not waiter or tonumber(redis.call('ZSCORE', key.alive, head) or 0) <= now then
      leave(key, head)
    elseif is_refused(waiter, semaphore.limit) then
      leave(key, head)
      tell(waiter.channel, head)
    elseif semaphore.used + waiter.weight <= semaphore.limit then
      give(key, semaphore, head, waiter.weight, 2 * waiter.beat, 0, waiter.label)
      leave(key, head)
      tell(waiter.channel, head)
    else
      return
    end
  end
end
