-- Delayed jobs that are due go to the stream, the earliest first.
-- ARGV  6 at most how many
-- Reply: how many; ms until the next is due, or -1
local jobs = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, ARGV[6])
for _, job in ipairs(jobs) do
  local fields = cmsgpack.unpack(job)
  redis.call('XADD', stream, '*', unpack(fields, 2))
  redis.call('ZREM', delayed, job)
end
return {#jobs, next_of(delayed)}
