-- What all scripts of this crate share. It stands before each of them.
--
-- The keys of a name: 1 the lock, 2 its fencing counter, 3 the queue (owner by place), 4 until when each waiter counts as
-- alive, 5 what else is known of each waiter, and the version of all this, 6 the lock's value once more, which outlasts
-- it, so that one who finds that it ended by itself can say whose it was.
--
-- A lock's value is 'owner token since label'. A waiter's is its tokens, ms between its signs of life, since when it waits, its
-- channel, and its label, a line each.
local VERSION = '1'
local KEPT = 10000 -- ms that the queue and the value outlast what they are about
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function keys_from(first)
  return {
    lock = KEYS[first], fence = KEYS[first + 1], queue = KEYS[first + 2],
    alive = KEYS[first + 3], waiting = KEYS[first + 4], last = KEYS[first + 5],
  }
end

local function owner_of(value)
  return value and string.sub(value, 1, 32)
end

-- A message that cannot be sent must not undo what it is about.
local function publish(channel, message)
  redis.pcall(string.sub(channel, 1, 1) == '{' and 'SPUBLISH' or 'PUBLISH', channel, message)
end

-- If the lock was another's until it ended by itself, says so. Gives the last value where it is of this one.
local function last_of(key, value, events)
  local last = redis.call('GET', key.last)
  if not last or owner_of(last) == owner_of(value) then
    return last
  end
  redis.call('DEL', key.last)
  publish(events, 'lost ' .. last)
  return false
end

local function leave(key, owners)
  redis.call('ZREM', key.queue, unpack(owners))
  redis.call('ZREM', key.alive, unpack(owners))
  redis.call('HDEL', key.waiting, unpack(owners))
  if redis.call('EXISTS', key.queue) == 0 then
    redis.call('DEL', key.alive, key.waiting)
  end
end

local function prune(key)
  repeat
    local dead = redis.call('ZRANGEBYSCORE', key.alive, '-inf', now, 'LIMIT', 0, 1000)
    if dead[1] then
      leave(key, dead)
    end
  until #dead < 1000
end

local function reserve(key, count)
  local last = redis.call('INCRBY', key.fence, count)
  if last > 9007199254740991 then
    error({err = 'ERR the fencing counter is used up: delete ' .. key.fence .. ' when nothing holds an old token'})
  end
  return last - count + 1
end

local function value_of(owner, first, label)
  return string.format('%s %.0f %.0f ', owner, first, now) .. label
end

-- The queue outlasts its waiters' signs of life, but not for ever.
local function keep(key, beat)
  if redis.call('PTTL', key.alive) < 3 * beat + KEPT / 2 then
    for _, name in ipairs({key.queue, key.alive, key.waiting}) do
      redis.call('PEXPIRE', name, 3 * beat + KEPT)
    end
  end
end

-- A lock that is free goes to the head of the queue, for as long as it may take to confirm that. One that shows no sign of life
-- meanwhile loses its place with it. Gives the lock's value, if there was anybody.
local function pass_on(key)
  while true do
    local head = redis.call('ZRANGE', key.queue, 0, 0)[1]
    if not head then
      return false
    end
    local waiter = redis.call('HGET', key.waiting, head) or ''
    local count, beat, channel, label = string.match(waiter, '^(%d+)\n(%d+)\n%d+\n([^\n]*)\n(.*)$')
    if count then
      local value, grace = value_of(head, reserve(key, tonumber(count)), label), 2 * beat
      redis.call('SET', key.lock, value, 'PX', grace)
      redis.call('ZADD', key.alive, 'LT', now + grace, head)
      publish(channel, head)
      return value
    end
    leave(key, {head})
  end
end
