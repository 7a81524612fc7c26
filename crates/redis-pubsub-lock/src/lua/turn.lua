-- What all scripts of this crate share, and how a free lock is given to the next. `queue.lua` has the rest.
--
-- The keys of a name: 1 the lock, 2 its fencing counter, 3 the queue (owner by place), 4 until when each waiter counts as
-- alive, 5 what else is known of each waiter, and the version of all this, 6 the lock's value once more, which outlasts
-- it, so that one who finds that it ended by itself can say whose it was.
--
-- A lock's value is 'owner token since label'. A waiter's is its tokens, ms between its signs of life, since when it waits, its
-- channel, and its label, a line each.
local VERSION = '1'
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

-- Gives the lock, which is free, to the head of the queue, if that is alive, for as long as it may take to confirm that. One that shows
-- no sign of life meanwhile loses its place with it. Gives the lock's value, or else the head, if there is any.
local function give(key)
  local head = redis.call('ZRANGE', key.queue, 0, 0)[1]
  local known = redis.call('HMGET', key.waiting, 'v', head or '')
  if known[1] ~= VERSION then
    return false
  end
  if not head then
    redis.call('DEL', key.waiting) -- Only the version is left.
    return false
  end
  local count, beat, channel, label = string.match(known[2] or '', '^(%d+)\n(%d+)\n%d+\n([^\n]*)\n(.*)$')
  if not count then
    return false, head
  end
  local grace = 2 * beat
  -- Unless it was to count as alive for longer than that, see whether it does at all.
  if redis.call('ZADD', key.alive, 'XX', 'LT', 'CH', now + grace, head) == 0
    and tonumber(redis.call('ZSCORE', key.alive, head) or 0) <= now then
    return false, head
  end
  local value = value_of(head, reserve(key, tonumber(count)), label)
  redis.call('SET', key.lock, value, 'PX', grace)
  publish(channel, head)
  return value
end

