-- Gives a permit, or a place in the queue, back. What is free goes to the next.
-- KEYS  of the name
-- ARGV  1 owner
-- Reply 1 released, 0 it was gone
local key, owner = keys_from(1), ARGV[1]
local ends = redis.pcall('ZSCORE', key.permits, owner) -- In a key of another type there is nothing of ours.
local had = type(ends) == 'string'
-- It is given back, whatever the rest is like.
pcall(function()
  local semaphore = open(key)
  if had then
    local weight = weigh(key, {owner})
    redis.call('ZREM', key.permits, owner)
    redis.call('HDEL', key.holders, owner)
    semaphore.counted = semaphore.counted and semaphore.counted - weight
  elseif redis.call('ZSCORE', key.queue, owner) then
    leave(key, owner)
  else
    return
  end
  if semaphore.limit then
    count(key, semaphore)
    serve(key, semaphore)
    keep(key, semaphore)
  end
end)
if had then
  redis.call('ZREM', key.permits, owner)
end
return had and tonumber(ends) > now and 1 or 0
