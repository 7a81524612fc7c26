-- Takes what is to be tried: failed before, handed back, or left behind by the dead.
-- ARGV  6 at most how many
-- Reply: 1, or 0 if the caller counts as dead; how many were gone from the stream; ms until the next, or -1;
--        whether it is for the caller to move delayed jobs: 1 or 0; the jobs, each as id, fields, which delivery it is
if not is_alive() then
  return {0, 0, -1, 0, {}}
end
local most = tonumber(ARGV[6])
local taken = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, most + 100)) do
  if #taken == most then
    break
  end
  redis.call('ZREM', due, id)
  local _, deliveries = pending(id)
  if deliveries then
    local job = redis.call('XRANGE', stream, id, id)[1]
    local of = job and lane_of(job[2])
    if of then
      redis.call('ZADD', lanes, 0, of .. fixed(id))
    end
    if not job then
      redis.call('XACK', stream, group, id)
      gone = gone + 1
    elseif not of or head(of) == id then
      redis.call('XCLAIM', stream, group, me, 0, id, 'RETRYCOUNT', deliveries + 1, 'JUSTID')
      taken[#taken + 1] = {id, job[2], deliveries + 1}
    end
    -- Else it waits in its lane, and whoever finishes what is before it takes it.
  end
end
local next = next_of(due)
if next == 0 and #taken > 0 then
  wake()
end
return {1, gone, next, redis.call('HGET', settings, 'mover') == me and 1 or 0, taken}
