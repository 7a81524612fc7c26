-- Gives back the lock if it is the owner's, else its place in the queue. A lock that is free goes to the next.
-- KEYS  of the name
-- ARGV  1 owner, 2 the channel for events
-- Reply 2 released, 1 another's, 0 gone
local fine, passed = pcall(function()
  -- One that has confirmed it has no place.
  if not confirmed and redis.call('HGET', key.waiting, 'v') == VERSION then
    if redis.call('ZSCORE', key.queue, owner) then
      leave(key, {owner})
    end
    if not value then
      last_of(key, false, events)
    end
  end
  return (mine or not value) and pass_on(key)
end)
-- It is given back, whatever the queue is like.
if mine and not (fine and passed) then
  redis.call('DEL', key.lock)
end
return mine and 2 or value and 1 or 0
