-- Tells who holds and who waits. Writes nothing.
-- KEYS  of the name
-- Reply {1, now, form or '', limit or '', how many holders, for each owner, end and what else is known,
--        for each waiter owner and what else is known}; {-2, version} written by another version
local key = keys_from(1)
local semaphore, other = open(key)
if not semaphore then
  return other
end
local holders = redis.call('ZRANGEBYSCORE', key.permits, '(' .. number(now), '+inf', 'WITHSCORES')
local reply = {1, number(now), semaphore.form or '', semaphore.limit and number(semaphore.limit) or '', #holders / 2}
for i = 1, #holders, 2 do
  reply[#reply + 1] = holders[i]
  reply[#reply + 1] = holders[i + 1]
  reply[#reply + 1] = redis.call('HGET', key.holders, holders[i]) or ''
end
for _, owner in ipairs(redis.call('ZRANGE', key.queue, 0, -1)) do
  local about = tonumber(redis.call('ZSCORE', key.alive, owner) or 0) > now and redis.call('HGET', key.waiters, owner)
  if about then
    reply[#reply + 1] = owner
    reply[#reply + 1] = about
  end
end
return reply
