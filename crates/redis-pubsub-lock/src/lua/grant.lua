-- Grants the lock to one owner, confirms that who released it has granted it, or gives the owner a place in the queue.
-- KEYS  of the name
-- ARGV  1 owner, 2 time to live in ms, 3 tokens to reserve, 4 ms between signs of life (0: does not wait), 5 its channel,
--       6 its label, 7 the channel for events, 8 ms that the value outlasts the lock
-- Reply {1, first token} granted; {0, ms until it ends unless renewed, or -1; how many wait before it, or -1} refused;
--       {-1, version} a queue of another version
local key = keys_from(1)
local owner, ttl, count, beat = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local channel, label, events = ARGV[5], ARGV[6], ARGV[7]
-- `confirm.lua` has asked for the lock's value: it is not this owner's.
local function look()
  return unpack(redis.call('HMGET', key.waiting, 'v', owner, owner_of(value) or ''))
end
local version, place, unconfirmed = look()
if version and version ~= VERSION then
  return {-1, version}
end
if not value then
  last_of(key, value, events)
end
if version and prune(key) then
  version, place, unconfirmed = look()
end
if not value then
  local head = version and redis.call('ZRANGE', key.queue, 0, 0)[1]
  value = head and head ~= owner and pass_on(key)
  unconfirmed = value
  if not value then
    local first = reserve(key, count)
    value = value_of(owner, first, label)
    redis.call('SET', key.lock, value, 'PX', ttl)
    redis.call('SET', key.last, value, 'PX', ttl + KEPT)
    publish(events, 'acquired ' .. value)
    if version then
      leave(key, {owner})
    end
    return {1, first}
  end
end
if beat == 0 then
  return {0, redis.call('PTTL', key.lock), -1}
end

local ahead = place and redis.call('ZRANK', key.queue, owner)
if ahead then
  redis.pcall('ZADD', key.alive, now + 3 * beat, owner) -- pcall: short memory takes no place away
else
  local tail = redis.call('ZREVRANGE', key.queue, 0, 0, 'WITHSCORES')[2] or 0
  redis.call('ZADD', key.queue, tail + 1, owner)
  redis.call('ZADD', key.alive, now + 3 * beat, owner)
  local waiter = string.format('%.0f\n%.0f\n%.0f\n', count, beat, now) .. channel .. '\n' .. label
  redis.call('HSET', key.waiting, 'v', VERSION, owner, waiter)
  ahead = redis.call('ZRANK', key.queue, owner)
end
keep(key, beat)
if unconfirmed and ahead > 0 then
  ahead = ahead - 1 -- It has its place until it confirms that it was granted.
end
return {0, redis.call('PTTL', key.lock), ahead}
