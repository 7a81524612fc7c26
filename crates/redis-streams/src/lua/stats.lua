-- How large a queue is, by part.
-- ARGV  as always; the consumer and what follows have no meaning
-- Reply: ms now; jobs in the stream, its bytes; delayed jobs, their bytes; dead letters, their bytes; jobs in lanes;
--        how many wait for another attempt or were left behind; how many are not read yet, or -1; how many are pending;
--        the oldest pending id; the oldest id that is not read; the workers, each as name, jobs, ms since it was heard
--        of, and ms that it counts as alive, or -1
local function bytes(key)
  return redis.call('MEMORY', 'USAGE', key) or 0
end

local lag, count, oldest, unread, workers = -1, 0, '', '', {}
local groups = redis.call('EXISTS', stream) == 1 and redis.call('XINFO', 'GROUPS', stream) or {}
for _, info in ipairs(groups) do
  local found = {}
  for i = 1, #info, 2 do
    found[info[i]] = info[i + 1]
  end
  if found.name == group then
    lag, count = found.lag or -1, found.pending
    local first = redis.call('XPENDING', stream, group, '-', '+', 1)[1]
    oldest = first and first[1] or ''
    local next = redis.call('XRANGE', stream, '(' .. found['last-delivered-id'], '+', 'COUNT', 1)[1]
    unread = next and next[1] or ''
    for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
      local ends = redis.call('ZSCORE', alive, consumer[2])
      workers[#workers + 1] = {consumer[2], consumer[4], consumer[6], ends and math.max(tonumber(ends) - now, 0) or -1}
    end
  end
end
local function size(command, key)
  return redis.call(command, key)
end
return {
  now, size('XLEN', stream), bytes(stream), size('ZCARD', delayed), bytes(delayed), size('XLEN', dead), bytes(dead),
  size('ZCARD', lanes), size('ZCARD', due), lag, count, oldest, unread, workers
}
