-- Reads two places in one step.
-- KEYS  1 the one place, 2 the other
-- Reply {the one count, the other}
return {tonumber(redis.call('GET', KEYS[1]) or 0), tonumber(redis.call('GET', KEYS[2]) or 0)}
