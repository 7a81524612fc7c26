-- Tells who holds and who waits. Writes nothing.
-- Reply {1, now, limit or 0, the numbers of holders and waiters, for each holder owner, end, details,
--        for each waiter owner, details}; {-2, version} written by another version
local meta, other = read()
if not meta then
  return other
end
local holders = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. number(now), '+inf', 'WITHSCORES')
local waiters = redis.call('ZRANGE', KEYS[4], 0, -1)
local reply = {1, number(now), meta[3] or '0', #holders / 2, 0}
for i = 1, #holders, 2 do
  reply[#reply + 1] = holders[i]
  reply[#reply + 1] = holders[i + 1]
  reply[#reply + 1] = redis.call('HGET', KEYS[3], holders[i]) or ''
end
for _, owner in ipairs(waiters) do
  local place = redis.call('HGET', KEYS[5], owner)
  if place and tonumber(string.match(place, '^(%d+)')) > now then
    reply[5] = reply[5] + 1
    reply[#reply + 1] = owner
    reply[#reply + 1] = place
  end
end
return reply
