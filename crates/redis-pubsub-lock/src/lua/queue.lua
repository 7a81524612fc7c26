-- The queue: who leaves it, who is dead, and how long it is kept.
local KEPT = 10000 -- ms that the queue and the value outlast what they are about

-- If the lock was another's until it ended by itself, says so.
local function last_of(key, value, events)
  local last = redis.call('GET', key.last)
  if last and owner_of(last) ~= owner_of(value) then
    redis.call('DEL', key.last)
    publish(events, 'lost ' .. last)
  end
end

local function leave(key, owners)
  redis.call('ZREM', key.queue, unpack(owners))
  redis.call('ZREM', key.alive, unpack(owners))
  redis.call('HDEL', key.waiting, unpack(owners))
  if redis.call('EXISTS', key.queue) == 0 then
    redis.call('DEL', key.alive, key.waiting)
  end
end

-- Drops the dead; whether there were any.
local function prune(key)
  local any = false
  repeat
    local dead = redis.call('ZRANGEBYSCORE', key.alive, '-inf', now, 'LIMIT', 0, 1000)
    if dead[1] then
      leave(key, dead)
      any = true
    end
  until #dead < 1000
  return any
end

-- The queue outlasts its waiters' signs of life, but not for ever.
local function keep(key, beat)
  if redis.call('PTTL', key.alive) < 3 * beat + KEPT / 2 then
    for _, name in ipairs({key.queue, key.alive, key.waiting}) do
      redis.call('PEXPIRE', name, 3 * beat + KEPT)
    end
  end
end

-- Gives the lock, which is free, to the first in the queue that is alive. Gives the lock's value, if there was anybody.
local function pass_on(key)
  while true do
    local value, dead = give(key)
    if not dead then
      return value
    end
    leave(key, {dead})
    prune(key)
  end
end

