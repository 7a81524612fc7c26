-- Signs of life of many waiters, and the check that nothing was missed: a lock that is free goes to the next.
-- KEYS  of each name, in order
-- ARGV  1 ms between signs of life; then for each name: the channel for events, how many owners, the owners
-- Reply for each name: ms until the lock ends unless it is renewed, or less than 0; then for each owner how many wait before it, or
--       -1 if it has to ask: it was granted, or has no place in the queue any more
local beat = tonumber(ARGV[1])

local function check(key, events, owners)
  local value, version = redis.call('GET', key.lock), redis.call('HGET', key.waiting, 'v')
  last_of(key, value, events)
  if version ~= VERSION then
    return redis.call('PTTL', key.lock), {}
  end
  for _, owner in ipairs(owners) do
    redis.call('ZADD', key.alive, 'XX', now + 3 * beat, owner)
  end
  keep(key, beat)
  prune(key)
  value = value or pass_on(key)
  local granted = value and redis.call('ZSCORE', key.queue, owner_of(value)) and 1 or 0
  local ahead = {}
  for i, owner in ipairs(owners) do
    local rank = owner ~= owner_of(value) and redis.call('ZRANK', key.queue, owner)
    ahead[i] = rank and rank - granted
  end
  return redis.call('PTTL', key.lock), ahead
end

local reply, at = {}, 2
for first = 1, #KEYS, 6 do
  local owners = {}
  for i = 1, tonumber(ARGV[at + 1]) do
    owners[i] = ARGV[at + 1 + i]
  end
  -- Where a key holds another type, who asks is told.
  local fine, ends, ahead = pcall(check, keys_from(first), ARGV[at], owners)
  reply[#reply + 1] = fine and ends or -1
  for i = 1, #owners do
    reply[#reply + 1] = fine and ahead[i] or -1
  end
  at = at + 2 + #owners
end
return reply
