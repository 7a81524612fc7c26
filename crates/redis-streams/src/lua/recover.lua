-- Finds jobs that were given to this worker in a reply that never arrived. It must not read meanwhile.
-- ARGV  6 and on: what it has
-- Reply: how many were found
if not is_alive() then
  return 0
end
local has, found = {}, 0
for i = 6, #ARGV do
  has[ARGV[i]] = true
end
local from = '-'
while true do
  local jobs = redis.call('XPENDING', stream, group, from, '+', 1000, me)
  for _, job in ipairs(jobs) do
    local id = job[1]
    if not has[id] and not redis.call('ZSCORE', due, id) then
      local entry = order ~= 'none' and redis.call('XRANGE', stream, id, id)[1]
      local of = entry and lane_of(entry[2])
      if not of or head(of) == id then
        -- It was never begun.
        orphan(id, math.max(job[4] - 1, 0))
        found = found + 1
      end
    end
    from = '(' .. id
  end
  if #jobs < 1000 then
    break
  end
end
if found > 0 then
  wake()
end
return found
