-- Gives a permit, or a place in the queue, back.
-- ARGV  1 owner
-- Reply 1 released, 0 it was gone
local owner, held = ARGV[1], 0
local ends = redis.pcall('ZSCORE', KEYS[2], owner) -- in a key of another type there is nothing of ours
if type(ends) == 'string' then
  held = tonumber(ends) > now and 1 or 0
  local weight = weight_of(owner)
  redis.call('ZREM', KEYS[2], owner)
  redis.call('HDEL', KEYS[3], owner)
  if redis.call('HGET', KEYS[1], 'form') == 'counter' then
    redis.pcall('HINCRBY', KEYS[1], 'used', '-' .. number(weight)) -- A counter that cannot be counted is set right by the next grant.
  end
end
local queued = redis.pcall('ZREM', KEYS[4], owner)
redis.pcall('HDEL', KEYS[5], owner)
if type(ends) == 'string' or queued == 1 then
  wake()
end
return held
