-- Before the rest of `grant`: the owner has a permit already, be it by the release of another or by a request whose
-- reply was lost. The next one waits for nothing but this, so it comes before anything that it can do without.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function confirm()
  local about = redis.call('HGET', KEYS[3], ARGV[1])
  local ends = about and redis.call('ZSCORE', KEYS[2], ARGV[1])
  if not ends or tonumber(ends) <= now then
    return
  end
  local ttl = tonumber(ARGV[2])
  -- First of all PEXPIRE, which takes no memory: a script that has written may go on where memory is short.
  for k = 2, 3 do
    redis.call('PEXPIRE', KEYS[k], math.max(redis.call('PTTL', KEYS[k]), ttl))
  end
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + ttl), ARGV[1])
  local head, token, since, confirmed, label = string.match(about, '^(%d+) (%d+) (%d+) (%d) (.*)$')
  if confirmed == '0' then
    redis.call('HSET', KEYS[3], ARGV[1], head .. ' ' .. token .. ' ' .. since .. ' 1 ' .. label)
  end
  return {1, tonumber(token)}
end
local reply = confirm()
if reply then
  return reply
end

