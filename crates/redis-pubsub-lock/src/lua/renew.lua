-- Renews many leases. What is gone, or another's, is left as it is.
-- KEYS  for each lease: 1 the lock, 2 its value once more
-- ARGV  1 ms that the second outlasts the first; then for each lease: owner, time to live in ms
-- Reply for each lease 1 renewed or 0 not held
local reply = {}
for i = 1, #KEYS, 2 do
  local value = redis.pcall('GET', KEYS[i]) -- a key of another type must not fail the whole batch
  if type(value) == 'string' and string.sub(value, 1, 32) == ARGV[i + 1] then
    redis.call('PEXPIRE', KEYS[i], ARGV[i + 2])
    redis.call('PEXPIRE', KEYS[i + 1], ARGV[i + 2] + ARGV[1])
    reply[#reply + 1] = 1
  else
    reply[#reply + 1] = 0
  end
end
return reply
