-- Before the rest of `release`: the lock is given back, and the next, who waits for nothing but this, is alive.
local key, owner, events = keys_from(1), ARGV[1], ARGV[2]
local value = redis.pcall('GET', key.lock)
local mine = type(value) == 'string' and owner_of(value) == owner -- In a key of another type there is nothing of ours.
local confirmed = mine and redis.pcall('GETDEL', key.last) == value
if confirmed then
  publish(events, 'released ' .. value)
  local fine, given, dead = pcall(give, key)
  if not fine or not dead then
    if not fine or not given then
      redis.call('DEL', key.lock) -- Nobody waits. And whatever the queue is like, it is given back.
    end
    return 2
  end
end

