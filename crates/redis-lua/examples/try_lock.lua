-- Takes a lock that is free.
-- KEYS  1 the lock
-- ARGV  1 who takes it, 2 for how long, in milliseconds
-- Reply 1 taken, 0 held by somebody
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return 1
end
return 0
