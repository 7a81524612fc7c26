-- Counts at two places in one step.
-- KEYS  1 the one place, 2 the other
-- Reply the count
redis.call('INCR', KEYS[1])
return redis.call('INCR', KEYS[2])
