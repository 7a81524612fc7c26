-- Gives back the lock if it is the owner's, else its place in the queue. A lock that is free goes to the next.
-- KEYS  of the name
-- ARGV  1 owner, 2 the channel for events
-- Reply 2 released, 1 another's, 0 gone
local key, owner, events = keys_from(1), ARGV[1], ARGV[2]
local value = redis.pcall('GET', key.lock)
local outcome = value and 1 or 0 -- In a key of another type there is nothing of ours.
if type(value) == 'string' and owner_of(value) == owner then
  redis.call('DEL', key.lock)
  local last = redis.pcall('GET', key.last)
  if type(last) == 'string' and owner_of(last) == owner then
    redis.call('DEL', key.last)
    publish(events, 'released ' .. value)
  end
  value, outcome = false, 2
end
-- It is given back, whatever the queue is like.
pcall(function()
  if redis.call('HGET', key.waiting, 'v') ~= VERSION then
    return
  end
  if redis.call('ZSCORE', key.queue, owner) then
    leave(key, {owner})
  end
  if not value then
    last_of(key, false, events)
    prune(key)
    pass_on(key)
  end
end)
return outcome
