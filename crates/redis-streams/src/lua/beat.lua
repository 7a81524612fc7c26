-- A sign of life, and a look at the others: the jobs of those who give none any more are to be tried by whoever has room.
-- ARGV  6 ms that a worker counts as alive after a sign of life
-- Reply: 1, or 0 if the caller counts as dead, or -1 if the group is gone; ms until something is to be tried, or -1;
--        ms until a delayed job is due, or -1 if there is none, or -2 if another sees to them; how many jobs became nobody's; how many were
--        gone from the stream
local limit = tonumber(ARGV[6])
if not is_alive() then
  return {0, -1, -2, 0, 0}
end
local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
if consumers.err then
  if string.find(consumers.err, 'NOGROUP') or string.find(consumers.err, 'no such key') then
    return {-1, -1, -2, 0, 0}
  end
  return consumers
end
redis.call('ZADD', alive, now + limit, me)
local dying = {}
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', alive, '-inf', '(' .. now)) do
  dying[worker] = true
  redis.call('ZREM', alive, worker)
end

-- Of the jobs of a lane only the first may have been begun.
local function may_be_begun(id)
  local entry = order ~= 'none' and redis.call('XRANGE', stream, id, id)[1]
  local of = entry and lane_of(entry[2])
  return not of or head(of) == id
end

-- How many deliveries of a job of the dead count. A first one counts only if it is the second time: else a job that kills
-- whoever begins it would never be set aside.
local function count_of(id, deliveries)
  if deliveries == 1 and may_be_begun(id) and redis.call('ZADD', left, string.match(id, '^%d+'), id) == 0 then
    return 1
  end
  return unless_first(deliveries)
end

local orphans = 0
for _, consumer in ipairs(consumers) do
  local name, count, idle = consumer[2], consumer[4], consumer[6]
  if name ~= me and not redis.call('ZSCORE', alive, name) then
    -- Of somebody who never gave signs of life, what was not touched for as long.
    local least = dying[name] and 0 or limit
    if count > 0 then
      for _, job in ipairs(redis.call('XPENDING', stream, group, 'IDLE', least, '-', '+', math.min(count, 10000), name)) do
        if not redis.call('ZSCORE', due, job[1]) then
          orphan(job[1], count_of(job[1], job[4]))
          orphans = orphans + 1
        end
      end
    elseif idle >= limit then
      redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
    end
  end
end
if orphans > 0 then
  wake()
elseif redis.call('EXISTS', left) == 1 then
  -- What is done needs no mark any more.
  local first = redis.call('XPENDING', stream, group, '-', '+', 1)[1]
  redis.call('ZREMRANGEBYSCORE', left, '-inf', '(' .. (first and string.match(first[1], '^%d+') or now))
end
local mover = redis.call('HGET', settings, 'mover')
if mover ~= me and not (mover and redis.call('ZSCORE', alive, mover)) then
  mover = me
  redis.call('HSET', settings, 'mover', me)
end
return {1, next_of(due), mover == me and next_of(delayed) or -2, orphans - gone, gone}
