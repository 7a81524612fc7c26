-- Reads new jobs in order: read and put into their lanes in one step, since two workers that did this in two would put
-- them there in any order.
-- ARGV  6 at most how many, 7 the most jobs in lanes
-- Reply: 1, or 0 if the caller counts as dead, or 2 if the lanes are full; the last id that the group has read; the jobs
--        that are the first of their lane, each as id, fields, which delivery it is
if not is_alive() then
  return {0, '', {}}
end
if redis.call('ZCARD', lanes) >= tonumber(ARGV[7]) then
  return {2, '', {}}
end
local read = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', ARGV[6], 'STREAMS', stream, '>')
local first, last = {}, ''
if read and read[1] then
  for _, job in ipairs(read[1][2]) do
    local of = lane_of(job[2])
    if of then
      redis.call('ZADD', lanes, 0, of .. fixed(job[1]))
    end
    if not of or head(of) == job[1] then
      first[#first + 1] = {job[1], job[2], 1}
    end
    last = job[1]
  end
else
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    if info[2] == group then
      last = info[8]
    end
  end
end
return {1, last, first}
