-- Drops what has ended, and sets the counter to what the permits say.
-- Reply {1, the counter before, and after}; {-2, version} written by another version
local meta, other = read()
if not meta then
  return other
end
while prune() > 0 do end
for _, owner in ipairs(redis.call('HKEYS', KEYS[3])) do
  if not redis.call('ZSCORE', KEYS[2], owner) then
    redis.call('HDEL', KEYS[3], owner)
  end
end
local used = recount()
local before = meta[2] == 'counter' and (tonumber(meta[4]) or 0) or used
if meta[2] == 'counter' then
  redis.call('HSET', KEYS[1], 'used', number(used), 'reviewed', number(now))
end
wake()
return {1, before, used}
