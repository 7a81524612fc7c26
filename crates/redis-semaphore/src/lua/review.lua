-- Drops what has ended, and sets the counter to what the permits weigh.
-- KEYS  of the name
-- Reply {1, the counter before, and after}; {-2, version} written by another version
local key = keys_from(1)
local semaphore, other = open(key)
if not semaphore then
  return other
end
if not semaphore.limit then
  return {1, '0', '0'}
end
local before = semaphore.counted
count(key, semaphore)
for _, owner in ipairs(redis.call('HKEYS', key.holders)) do
  if not redis.call('ZSCORE', key.permits, owner) then
    redis.call('HDEL', key.holders, owner)
  end
end
review(key, semaphore)
local after = semaphore.used < math.huge and semaphore.used or semaphore.limit
serve(key, semaphore)
keep(key, semaphore)
return {1, number(before or after), number(after)}
