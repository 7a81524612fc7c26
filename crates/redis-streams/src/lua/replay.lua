-- Dead letters go to the stream again, each as a new job; where there are several groups, for this one alone.
-- KEYS  1 the stream, 2 the dead letters
-- ARGV  1 group, 2 and on: which
-- Reply: the new id of each, or nothing for one that is not there
-- The stream may have been deleted: it is made anew.
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
local several = not groups.err and #groups > 1
local replies = {}
for i = 2, #ARGV do
  local letter = redis.call('XRANGE', KEYS[2], ARGV[i], ARGV[i])[1]
  if letter then
    local fields = {unpack(letter[2], 7)}
    if several then
      for f = #fields - 1, 1, -2 do
        if fields[f] == '@for' then
          table.remove(fields, f)
          table.remove(fields, f)
        end
      end
      fields[#fields + 1] = '@for'
      fields[#fields + 1] = ARGV[1]
    end
    replies[i - 1] = redis.call('XADD', KEYS[1], '*', unpack(fields))
    redis.call('XDEL', KEYS[2], ARGV[i])
  else
    replies[i - 1] = ''
  end
end
return replies
