-- A worker ends: what it still has goes to the others at once.
-- Reply: how many jobs
local jobs = 0
if redis.call('ZREM', alive, me) == 1 then
  local from = '-'
  while true do
    local mine = redis.call('XPENDING', stream, group, from, '+', 1000, me)
    for _, job in ipairs(mine) do
      local entry = order ~= 'none' and redis.call('XRANGE', stream, job[1], job[1])[1]
      local of = entry and lane_of(entry[2])
      if not redis.call('ZSCORE', due, job[1]) and (not of or head(of) == job[1]) then
        orphan(job[1], unless_first(job[4]))
        jobs = jobs + 1
      end
      from = '(' .. job[1]
    end
    if #mine < 1000 then
      break
    end
  end
  if redis.call('XPENDING', stream, group, '-', '+', 1, me)[1] == nil then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, me)
  end
  if redis.call('HGET', settings, 'mover') == me then
    local other = redis.call('ZREVRANGE', alive, 0, 0)[1]
    if other then
      redis.call('HSET', settings, 'mover', other)
    end
  end
  wake()
end
return jobs
