-- Renews many exclusive leases, each on one or several names. What is gone, or another's, is left as it is.
-- KEYS  the locks of all leases, in order
-- ARGV  for each lease: 1 owner, 2 time to live in ms, 3 how many of the locks are its
-- Reply for each lease 1 renewed or 0 not held
local reply, first = {}, 1
for a = 1, #ARGV, 3 do
  local last, held = first + ARGV[a + 2] - 1, 1
  for k = first, last do
    local value = redis.pcall('GET', KEYS[k]) -- a key of another type must not fail the whole batch
    if type(value) ~= 'string' or string.sub(value, 1, 32) ~= ARGV[a] then
      held = 0
    end
  end
  if held == 1 then
    for k = first, last do
      redis.call('PEXPIRE', KEYS[k], ARGV[a + 1])
    end
  end
  reply[#reply + 1] = held
  first = last + 1
end
return reply
