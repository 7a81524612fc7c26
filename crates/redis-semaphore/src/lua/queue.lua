-- The queue's own care: its dead, and how long it is kept.

local function prune_queue(key)
  repeat
    local dead = redis.call('ZRANGEBYSCORE', key.alive, '-inf', now, 'LIMIT', 0, 1000)
    if dead[1] then
      redis.call('ZREM', key.queue, unpack(dead))
      redis.call('ZREM', key.alive, unpack(dead))
      redis.call('HDEL', key.waiters, unpack(dead))
    end
  until #dead < 1000
end

-- It outlasts its waiters' signs of life, but not for ever.
local function keep_queue(key, beat)
  if redis.call('PTTL', key.alive) < 3 * beat + KEPT / 2 then
    for _, name in ipairs({key.queue, key.alive, key.waiters}) do
      redis.call('PEXPIRE', name, 3 * beat + KEPT)
    end
  end
end
