-- Sees to it that all tokens from now on are above this one.
-- KEYS  of the name
-- ARGV  1 token
-- Reply {1}; {-2, version} written by another version
local key = keys_from(1)
local semaphore, other = open(key)
if not semaphore then
  return other
end
if tonumber(redis.call('HGET', key.semaphore, 'token') or 0) < tonumber(ARGV[1]) then
  redis.call('HSET', key.semaphore, 'version', VERSION, 'token', ARGV[1])
end
return {1}
