-- Sets a string, unless its fencing token is older than the newest seen.
-- KEYS  1 the data, 2 the newest token
-- ARGV  1 the token, 2 the value
-- Reply {1, newest token} written, {0, newest token} refused
local newest = tonumber(redis.call('GET', KEYS[2]) or 0)
local token = tonumber(ARGV[1])
if token < newest then
  return {0, newest}
end
redis.call('SET', KEYS[1], ARGV[2])
if token > newest then
  redis.call('SET', KEYS[2], ARGV[1])
end
return {1, token}
