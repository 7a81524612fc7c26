-- Signs of life of many waiters, and the check that nothing was missed: what is free goes to the next.
-- KEYS  of each name, in order
-- ARGV  1 ms between signs of life; then for each name: a word without meaning, how many owners, the owners
-- Reply for each name: ms until the first permit ends unless it is renewed, or -1; then for each owner how many wait
--       before it, or -1 if it has to ask: it was given a permit, or has no place in the queue any more
local beat = tonumber(ARGV[1])

local function check(key, owners)
  local semaphore = open(key)
  if not semaphore or not semaphore.limit then
    return -1, {}
  end
  for _, owner in ipairs(owners) do
    redis.call('ZADD', key.alive, 'XX', now + 3 * beat, owner)
  end
  keep_queue(key, beat)
  prune_queue(key)
  count(key, semaphore)
  serve(key, semaphore)
  keep(key, semaphore)
  local ahead = {}
  for i, owner in ipairs(owners) do
    ahead[i] = redis.call('ZRANK', key.queue, owner)
  end
  local soonest = redis.call('ZRANGE', key.permits, 0, 0, 'WITHSCORES')[2]
  return soonest and math.max(soonest - now, 0) or -1, ahead
end

local reply, at = {}, 2
for first = 1, #KEYS, 6 do
  local owners = {}
  for i = 1, tonumber(ARGV[at + 1]) do
    owners[i] = ARGV[at + 1 + i]
  end
  -- Where a key holds another type, who asks is told.
  local fine, ends, ahead = pcall(check, keys_from(first), owners)
  reply[#reply + 1] = fine and ends or -1
  for i = 1, #owners do
    reply[#reply + 1] = fine and ahead[i] or -1
  end
  at = at + 2 + #owners
end
return reply
