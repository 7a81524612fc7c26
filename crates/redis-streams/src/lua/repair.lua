-- Lanes whose first job was removed by somebody else: the next one is to be tried.
-- ARGV  6 after which entry to look, or - for the first, 7 how many to look at
-- Reply: the last entry that was looked at, or - at the end; how many jobs were gone from the stream
local entries = redis.call('ZRANGEBYLEX', lanes, ARGV[6] == '-' and '-' or '(' .. ARGV[6], '+', 'LIMIT', 0, ARGV[7])
for _, entry in ipairs(entries) do
  if redis.call('ZSCORE', lanes, entry) and not is_there(unfixed(string.sub(entry, -41))) then
    local of = string.sub(entry, 1, #entry - 41)
    redis.call('ZREM', lanes, entry)
    local next = head(of)
    if next then
      redis.call('ZADD', due, 'NX', now, next)
      wake()
    end
  end
end
return {#entries == tonumber(ARGV[7]) and entries[#entries] or '-', gone}
