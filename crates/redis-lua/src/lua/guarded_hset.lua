-- Sets fields of a hash, unless its fencing token is older than the newest seen.
-- KEYS  1 the hash, 2 the newest token
-- ARGV  1 the token, then field and value in turn; none to claim the hash, or string, for this token
-- Reply {1, newest token} written, {0, newest token} refused
local newest = tonumber(redis.call('GET', KEYS[2]) or 0)
local token = tonumber(ARGV[1])
if token < newest then
  return {0, newest}
end
-- In slices: Lua hands on a few thousand arguments at once, no more.
for first = 2, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
if token > newest then
  redis.call('SET', KEYS[2], ARGV[1])
end
return {1, token}
