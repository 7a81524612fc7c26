#!lua flags=allow-oom
-- What all scripts of a group begin with.
-- KEYS  1 the stream; 2 the workers that are alive, each with its end in ms; 3 what is to be tried, each with when in ms;
--       4 the jobs of lanes, in order; 5 the dead letters; 6 the group's settings; 7 delayed jobs; 8 what was left behind
--       once at its first delivery, each with its ms
-- ARGV  1 group, 2 consumer, 3 order: none, key or all, 4 the command that publishes, 5 the channel
local stream, alive, due, lanes, dead, settings, delayed, left = unpack(KEYS, 1, 8)
local group, me, order, publish, channel = unpack(ARGV, 1, 5)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Whoever is not among the living owns nothing: another has taken over, or will.
local function is_alive()
  return redis.call('ZSCORE', alive, me)
end

local function wake()
  redis.call(publish, channel, '')
end

-- ms until the first of a set is due, or -1.
local function next_of(set)
  local first = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')[2]
  return first and math.max(tonumber(first) - now, 0) or -1
end

-- Who has the job, and how often it was delivered; nothing if it is not pending.
local function pending(id)
  local found = redis.call('XPENDING', stream, group, id, id, 1)[1]
  if found then
    return found[2], found[4]
  end
end

-- Whether the job is pending and still in the stream. What somebody removed there is no longer pending then: XCLAIM sees to
-- that, and claims nothing that was touched within the last 285,000 years.
local gone = 0
local function is_there(id)
  if not pending(id) then
    return false
  end
  redis.call('XCLAIM', stream, group, me, 9007199254740991, id, 'JUSTID')
  if pending(id) then
    return true
  end
  redis.call('ZREM', due, id)
  gone = gone + 1
  return false
end

-- What counts of the deliveries of a job that may not have been begun: a first one may have been read ahead.
local function unless_first(deliveries)
  return deliveries > 1 and deliveries or 0
end

-- The job is nobody's from now on, with so many deliveries. What somebody removed from the stream is gone, and no longer
-- pending.
local function orphan(id, count)
  local claimed = redis.call('XCLAIM', stream, group, me, 0, id, 'RETRYCOUNT', count, 'JUSTID')
  if #claimed == 1 then
    redis.call('ZADD', due, 'NX', now, id)
  else
    redis.call('XACK', stream, group, id)
    gone = gone + 1
  end
end

-- Lanes: one sorted set without scores, of the length of the key, the key, and the id in fixed width.
local function lane(key)
  return string.format('%08x', #key) .. key
end

local function fixed(id)
  local ms, nr = string.match(id, '^(%d+)-(%d+)$')
  return string.rep('0', 20 - #ms) .. ms .. '-' .. string.rep('0', 20 - #nr) .. nr
end

local function unfixed(text)
  local ms, nr = string.match(text, '0*(%d+)-0*(%d+)$')
  return ms .. '-' .. nr
end

local function lane_of(fields)
  if order == 'all' then
    return lane('')
  elseif order == 'key' then
    for i = 1, #fields, 2 do
      if fields[i] == '@key' then
        return lane(fields[i + 1])
      end
    end
  end
end

-- The first job of the lane that is there, by its id; what was removed by somebody else holds up nobody.
local function head(of)
  while true do
    local first = redis.call('ZRANGEBYLEX', lanes, '[' .. of, '(' .. of .. '\255', 'LIMIT', 0, 1)[1]
    if not first then
      return nil
    end
    local id = unfixed(string.sub(first, #of + 1))
    if is_there(id) then
      return id
    end
    redis.call('ZREM', lanes, first)
  end
end
