-- Grants a permit to one owner, or gives it a place in the queue.
-- ARGV  1 owner, 2 time to live in ms, 3 weight, 4 limit, 5 form, 6 ms that a place in the queue is to stand (0: none),
--       7 whether it keeps to the queue, 8 the channel that wakes it, 9 label
-- Reply {1, token} granted; {0, ms until the first permit ends or -1, how many are before it or -1} refused;
--       {-1, limit, form} there is another limit or form; {-2, version} written by another version
local owner, ttl, weight, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local form, place_ttl, fair = ARGV[5], tonumber(ARGV[6]), ARGV[7] == '1'
local meta, other = read()
if not meta then
  return other
end

-- Asked again by the same owner: the reply to its first request was lost.
local ends, mine = redis.call('ZSCORE', KEYS[2], owner), redis.call('HGET', KEYS[3], owner)
if ends and mine and tonumber(ends) > now then
  redis.call('ZADD', KEYS[2], now + ttl, owner)
  lasts(KEYS[2], ttl)
  lasts(KEYS[3], ttl)
  return {1, tonumber(string.match(mine, '^%d+ (%d+)'))}
end

if not meta[1] then
  redis.call('HSET', KEYS[1], 'version', '1', 'form', form, 'limit', number(limit))
elseif meta[2] ~= form or tonumber(meta[3]) ~= limit then
  return {-1, tonumber(meta[3]), meta[2]}
end

local freed, used = prune(), nil
if form == 'set' then
  used = recount()
else
  local held = redis.call('ZCARD', KEYS[2])
  used = (tonumber(meta[4]) or -1) - freed
  -- The review: when the counter cannot be right, and at most once a second otherwise.
  if used < held or (held == 0 and used ~= 0) or now - (tonumber(meta[5]) or 0) >= 1000 then
    used = recount()
    redis.call('HSET', KEYS[1], 'reviewed', number(now))
  end
end

local first = fair and head()
if used + weight <= limit and (not first or first == owner) then
  local token = redis.call('HINCRBY', KEYS[1], 'token', 1)
  if token > 9007199254740991 then
    return redis.error_reply('ERR the fencing counter is used up: delete ' .. KEYS[1] .. ' when nothing holds an old token')
  end
  redis.call('ZADD', KEYS[2], now + ttl, owner)
  redis.call('HSET', KEYS[3], owner, number(weight) .. ' ' .. number(token) .. ' ' .. number(now) .. ' ' .. ARGV[9])
  lasts(KEYS[2], ttl)
  lasts(KEYS[3], ttl)
  redis.call('ZREM', KEYS[4], owner)
  redis.call('HDEL', KEYS[5], owner)
  used = used + weight
  if form == 'counter' then
    redis.call('HSET', KEYS[1], 'used', number(used))
  end
  if used < limit then
    wake()
  end
  return {1, token}
end

if form == 'counter' then
  redis.call('HSET', KEYS[1], 'used', number(used))
end
if freed > 0 and first ~= owner then
  wake() -- What ended by itself was given back by nobody.
end
local ahead = -1
if fair and place_ttl > 0 then
  if not redis.call('ZSCORE', KEYS[4], owner) then
    redis.call('ZADD', KEYS[4], redis.call('HINCRBY', KEYS[1], 'arrivals', 1), owner)
  end
  local since = string.match(redis.call('HGET', KEYS[5], owner) or '', '^%d+ %d+ (%d+)') or number(now)
  redis.call('HSET', KEYS[5], owner,
    number(now + place_ttl) .. ' ' .. number(weight) .. ' ' .. since .. ' ' .. ARGV[8] .. ' ' .. ARGV[9])
  lasts(KEYS[4], place_ttl)
  lasts(KEYS[5], place_ttl)
  ahead = redis.call('ZRANK', KEYS[4], owner)
end
local soonest = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
return {0, soonest and math.max(soonest - now, 0) or -1, ahead}
