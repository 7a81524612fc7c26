-- Tells who holds the lock and who waits for it. Writes nothing.
-- KEYS  of the name
-- Reply {the server's time in ms, the lock's value or '', ms until it ends, 1 if its holder has confirmed it, the queue's version or
--       '', then for each waiter in order: owner, what is known of it}
local key = keys_from(1)
local value, version = redis.call('GET', key.lock) or '', redis.call('HGET', key.waiting, 'v') or ''
local holder = owner_of(value)
local confirmed = owner_of(redis.call('GET', key.last)) == holder and 1 or 0
local reply = {now, value, redis.call('PTTL', key.lock), confirmed, version}
if version == VERSION then
  for _, owner in ipairs(redis.call('ZRANGE', key.queue, 0, -1)) do
    local alive = tonumber(redis.call('ZSCORE', key.alive, owner) or 0) > now
    local waiter = alive and owner ~= holder and redis.call('HGET', key.waiting, owner)
    if waiter then
      reply[#reply + 1] = owner
      reply[#reply + 1] = waiter
    end
  end
end
return reply
