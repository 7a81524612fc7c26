-- Changes the limit, whatever it was.
-- KEYS  of the name
-- ARGV  1 limit, 2 form
-- Reply {1}; {-1, limit, form} there is another form; {-2, version} written by another version
local key, limit = keys_from(1), tonumber(ARGV[1])
local semaphore, other = open(key)
if not semaphore then
  return other
end
if semaphore.form and semaphore.form ~= ARGV[2] then
  return {-1, semaphore.limit, semaphore.form}
end
redis.call('HSET', key.semaphore, 'version', VERSION, 'form', ARGV[2], 'limit', ARGV[1])
semaphore.form, semaphore.limit = ARGV[2], limit
for _, owner in ipairs(redis.call('ZRANGE', key.queue, 0, -1)) do
  local waiter = waiter_of(key, owner)
  if waiter and is_refused(waiter, limit) then
    leave(key, owner)
    tell(waiter.channel, owner)
  end
end
count(key, semaphore)
serve(key, semaphore)
keep(key, semaphore)
return {1}
