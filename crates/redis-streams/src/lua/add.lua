-- Adds jobs, all of them or, where there is no room, none.
-- KEYS  1 the stream, 2 delayed jobs, 3 the ids that were seen, each with its end in ms
-- ARGV  1 the most jobs, or -1, 2 the most bytes, or -1, 3 the command that publishes, 4 the channel; then for each job:
--       when, as + and ms from now or @ and ms of the clock; its dedup id or nothing; ms that this id counts; a word that
--       no other job has; how many fields and values, these
-- Reply: the jobs and the bytes there are, both -1 where they do not matter, and whether there was room; for each job its
--        id, nothing if its dedup id was seen, or + and when it is due
local stream, delayed, seen = unpack(KEYS)
local most_jobs, most_bytes, publish, channel = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local jobs, at = {}, 5
while at <= #ARGV do
  local when = ARGV[at]
  local ms = tonumber(string.sub(when, 2))
  local count = tonumber(ARGV[at + 4])
  jobs[#jobs + 1] = {
    due = string.sub(when, 1, 1) == '+' and now + ms or ms,
    dedup = ARGV[at + 1], window = tonumber(ARGV[at + 2]), unique = ARGV[at + 3], from = at + 5, to = at + 4 + count
  }
  at = at + 5 + count
end

local function is_known(job)
  local ends = job.dedup ~= '' and redis.call('ZSCORE', seen, job.dedup)
  return ends and tonumber(ends) > now
end

local new = 0
for _, job in ipairs(jobs) do
  new = new + (is_known(job) and 0 or 1)
end
local length, bytes = -1, -1
if most_jobs >= 0 then
  length = redis.call('XLEN', stream) + redis.call('ZCARD', delayed)
end
if most_bytes >= 0 then
  bytes = (redis.call('MEMORY', 'USAGE', stream) or 0) + (redis.call('MEMORY', 'USAGE', delayed) or 0)
end
if new > 0 and ((most_jobs >= 0 and length + new > most_jobs) or (most_bytes >= 0 and bytes >= most_bytes)) then
  return {length, bytes, 0, {}}
end

local replies, sooner = {}, false
for i, job in ipairs(jobs) do
  if is_known(job) then
    replies[i] = ''
  else
    if job.due <= now then
      replies[i] = redis.call('XADD', stream, '*', unpack(ARGV, job.from, job.to))
    else
      local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
      sooner = sooner or not first or job.due < tonumber(first)
      redis.call('ZADD', delayed, job.due, cmsgpack.pack({job.unique, unpack(ARGV, job.from, job.to)}))
      replies[i] = '+' .. string.format('%.0f', job.due)
    end
    if job.dedup ~= '' then
      redis.call('ZADD', seen, now + job.window, job.dedup)
    end
  end
end
-- Last, since a script that has written may go on where memory is short: adding is to be refused there.
redis.call('ZREMRANGEBYSCORE', seen, '-inf', now)
if sooner then
  redis.call(publish, channel, '')
end
return {length, bytes, 1, replies}
