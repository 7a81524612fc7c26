-- Before the rest of `grant`: the owner has it already, be it by the release of another or by a request whose reply was lost. The next
-- one waits for nothing but this, so it comes before anything that it can do without.
local value = redis.call('GET', KEYS[1])
if value and string.sub(value, 1, 32) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  if redis.call('SET', KEYS[6], value, 'PX', ARGV[2] + ARGV[8], 'GET') ~= value then
    redis.call('ZREM', KEYS[3], ARGV[1])
    redis.call('ZREM', KEYS[4], ARGV[1])
    redis.call('HDEL', KEYS[5], ARGV[1])
    redis.pcall(string.sub(ARGV[7], 1, 1) == '{' and 'SPUBLISH' or 'PUBLISH', ARGV[7], 'acquired ' .. value)
  end
  return {1, tonumber(string.match(value, ' (%d+)'))}
end

