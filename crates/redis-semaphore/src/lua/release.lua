-- Gives a permit, or a place in the queue, back. What is free goes to the next.
-- KEYS  of the name
-- ARGV  1 owner
-- Reply 1 released, 0 it was gone
local key, owner = keys_from(1), ARGV[1]
local ends = redis.pcall('ZSCORE', key.permits, owner) -- In a key of another type there is nothing of ours.
local had = type(ends) == 'string'
local fine = pcall(function()
  if not had then
    if not redis.call('ZSCORE', key.queue, owner) then
      return
    end
    leave(key, owner)
  end
  local semaphore = open(key)
  if had then
    semaphore.counted = semaphore.counted and semaphore.counted - weigh(key, {owner})
    redis.call('ZREM', key.permits, owner)
    redis.call('HDEL', key.holders, owner)
  end
  if semaphore.limit then
    count(key, semaphore)
    serve(key, semaphore)
    keep(key, semaphore)
  end
end)
-- It is given back, whatever the rest is like.
if had and not fine then
  redis.call('ZREM', key.permits, owner)
end
return had and tonumber(ends) > now and 1 or 0
