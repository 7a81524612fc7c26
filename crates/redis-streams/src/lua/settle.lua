-- What became of jobs, in one step each: acknowledged, to be tried again, set aside, handed back.
-- KEYS  9 and on: what effects touch
-- ARGV  6 whether the next of a lane is taken: 1 or 0, 7 the command that forgets what is acknowledged: XDEL, XACKDEL or -,
--       8 how many to acknowledge and nothing else, their ids; then for the others: ack, again, dead or back; id; which
--       delivery; its lane, k and the key, or -; and
--         of ack    how many effects, each as how many words, the words
--         of again  ms until then
--         of dead   how many attempts, the error, how many fields and values, these: what to set aside if it is gone
--         of back   how many deliveries count
-- Reply: 1, or 0 if the caller counts as dead; how many were acknowledged of the first sort; of each other 1, 0 if it was
--        no longer the caller's, or the error of an effect; the next jobs of lanes, each as id, fields, which delivery;
--        how many jobs were gone from the stream
if not is_alive() then
  return {0, 0, {}, {}, 0}
end
local take_next, forget = ARGV[6] == '1', ARGV[7]
local first, last = 9, 8 + tonumber(ARGV[8])
-- A group may be new: it has read nothing yet.
if forget == 'XDEL' and #redis.pcall('XINFO', 'GROUPS', stream) > 1 then
  forget = '-'
end
local acknowledged = 0
for from = first, last, 1000 do
  local to = math.min(from + 999, last)
  if forget == 'XACKDEL' then
    for _, done in ipairs(redis.call('XACKDEL', stream, group, 'ACKED', 'IDS', to - from + 1, unpack(ARGV, from, to))) do
      acknowledged = acknowledged + (done ~= -1 and 1 or 0)
    end
  else
    acknowledged = acknowledged + redis.call('XACK', stream, group, unpack(ARGV, from, to))
    if forget == 'XDEL' then
      redis.call('XDEL', stream, unpack(ARGV, from, to))
    end
  end
end

local at = last + 1
local function word()
  at = at + 1
  return ARGV[at - 1]
end

local function words(count)
  at = at + count
  return {unpack(ARGV, at - count, at - 1)}
end

local replies, nexts, woken = {}, {}, false

local function leave(key, id)
  if key == '-' then
    return
  end
  local of = lane(string.sub(key, 2))
  redis.call('ZREM', lanes, of .. fixed(id))
  local next = head(of)
  -- One that is to be tried later, or was handed back, waits for that.
  if next and not redis.call('ZSCORE', due, next) then
    local _, deliveries = pending(next)
    local job = redis.call('XRANGE', stream, next, next)[1]
    if take_next and job then
      deliveries = math.max(deliveries, 1)
      redis.call('XCLAIM', stream, group, me, 0, next, 'RETRYCOUNT', deliveries, 'JUSTID')
      nexts[#nexts + 1] = {next, job[2], deliveries}
    else
      orphan(next, unless_first(deliveries))
      woken = true
    end
  end
end

local function acknowledge(key, id)
  redis.call('XACK', stream, group, id)
  if forget ~= '-' then
    redis.call(forget == 'XDEL' and 'XDEL' or 'XDELEX', stream, unpack(forget == 'XDEL' and {id} or {'ACKED', 'IDS', 1, id}))
  end
  leave(key, id)
end

while at <= #ARGV do
  local what, id, delivery, key = word(), word(), tonumber(word()), word()
  -- After a reply that was lost this may be said again, when another has the job, or the caller for another attempt.
  local owner, deliveries = pending(id)
  local mine = owner == me and deliveries == delivery
  local reply = mine and 1 or 0
  if what == 'ack' then
    for _ = 1, tonumber(word()) do
      local effect = words(tonumber(word()))
      if reply == 1 then
        local done = redis.pcall(unpack(effect))
        if type(done) == 'table' and done.err then
          reply = done.err
        end
      end
    end
    if reply == 1 then
      acknowledge(key, id)
    end
  elseif what == 'again' then
    local delay = tonumber(word())
    if mine then
      redis.call('ZADD', due, now + delay, id)
    end
  elseif what == 'dead' then
    local attempts, text = word(), word()
    local fields = words(tonumber(word()))
    if mine then
      local job = redis.call('XRANGE', stream, id, id)[1]
      fields = job and job[2] or fields
      redis.call('XADD', dead, '*', '@id', id, '@attempts', attempts, '@error', text, unpack(fields))
      acknowledge(key, id)
    end
  elseif what == 'back' then
    local count = tonumber(word())
    if mine then
      redis.call('XCLAIM', stream, group, me, 0, id, 'RETRYCOUNT', count, 'JUSTID')
      redis.call('ZADD', due, now, id)
      woken = true
    end
  end
  replies[#replies + 1] = reply
end
if woken then
  wake()
end
return {1, acknowledged, replies, nexts, gone}
