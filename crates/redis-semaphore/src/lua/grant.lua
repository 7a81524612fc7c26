-- Grants a permit to one owner, confirms that it was given one, or gives it a place in the queue.
-- KEYS  of the name
-- ARGV  1 owner, 2 time to live in ms, 3 weight, 4 limit, 5 whether the server's limit will do as well, 6 form,
--       7 whether it keeps to the queue, 8 ms between signs of life (0: does not wait there), 9 its channel, 10 its label,
--       11 whether a limit is only kept while a permit is held
-- Reply {1, token} granted; {0, ms until the first permit ends or -1, how many wait before it or -1} refused;
--       {-1, limit, form} there is another limit or form; {-2, version} written by another version; {-3, limit} too heavy
local key = keys_from(1)
local owner, ttl, weight, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local any_limit, form, fair, beat = ARGV[5] == '1', ARGV[6], ARGV[7] == '1', tonumber(ARGV[8])

local semaphore, other = open(key)
if not semaphore then
  return other
end
count(key, semaphore)
if not semaphore.limit or (ARGV[11] == '1' and semaphore.used == 0) then
  redis.call('HSET', key.semaphore, 'version', VERSION, 'form', form, 'limit', number(limit))
  semaphore.form, semaphore.limit = form, limit
end
if semaphore.form ~= form or is_refused({weight = weight, limit = any_limit and 0 or limit}, semaphore.limit) then
  leave(key, owner)
  serve(key, semaphore)
  keep(key, semaphore)
  if semaphore.form == form and (any_limit or limit == semaphore.limit) then
    return {-3, semaphore.limit}
  end
  return {-1, semaphore.limit, semaphore.form}
end

if fair then
  serve(key, semaphore)
  reply = confirm()
end
if not reply and semaphore.used + weight <= semaphore.limit and not (fair and redis.call('EXISTS', key.queue) == 1) then
  reply = {1, give(key, semaphore, owner, weight, ttl, 1, ARGV[10])}
end
if not fair then
  serve(key, semaphore) -- What ended by itself may be more than it took.
end
keep(key, semaphore)
if reply then
  return reply
end

local ahead = -1
if beat > 0 then
  ahead = redis.call('ZRANK', key.queue, owner)
  if ahead then
    redis.pcall('ZADD', key.alive, number(now + 3 * beat), owner) -- pcall: short memory takes no place away
  else
    redis.call('ZADD', key.queue, redis.call('HINCRBY', key.semaphore, 'arrivals', 1), owner)
    redis.call('ZADD', key.alive, number(now + 3 * beat), owner)
    redis.call('HSET', key.waiters, owner,
      string.format('%.0f\n%.0f\n%.0f\n%.0f\n', weight, any_limit and 0 or limit, beat, now) .. ARGV[9] .. '\n' .. ARGV[10])
    ahead = redis.call('ZRANK', key.queue, owner)
  end
  keep_queue(key, beat)
end
local soonest = redis.call('ZRANGE', key.permits, 0, 0, 'WITHSCORES')[2]
return {0, soonest and math.max(soonest - now, 0) or -1, ahead}
