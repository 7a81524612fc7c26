-- Removes what every group has acknowledged, from the oldest on.
-- KEYS  1 the stream
-- ARGV  1 a least id: of what is older, or - for all; 2 a length: no more than what is above it, or -1
-- Reply: how many were removed; how many are acknowledged and still there, behind one that is not, or -1 if that is
--        unknown; how many groups there are
local stream = KEYS[1]
local groups = redis.pcall('XINFO', 'GROUPS', stream)
if groups.err then
  if string.find(groups.err, 'no such key') then
    return {0, 0, 0}
  end
  return groups
end

local function less(a, b)
  local a_ms, a_nr = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_nr = string.match(b, '(%d+)-(%d+)')
  a_ms, b_ms, a_nr, b_nr = tonumber(a_ms), tonumber(b_ms), tonumber(a_nr), tonumber(b_nr)
  return a_ms < b_ms or (a_ms == b_ms and a_nr < b_nr)
end

local function after(id)
  local ms, nr = string.match(id, '(%d+)-(%d+)')
  -- Beyond what Lua counts exactly, one job more stays.
  return #nr < 16 and ms .. '-' .. string.format('%.0f', tonumber(nr) + 1) or id
end

local floor, lag, waiting = nil, 0, 0
for _, info in ipairs(groups) do
  local group = {}
  for i = 1, #info, 2 do
    group[info[i]] = info[i + 1]
  end
  local first = group.pending > 0 and redis.call('XPENDING', stream, group.name, '-', '+', 1)[1]
  local from = first and first[1] or after(group['last-delivered-id'])
  floor = (not floor or less(from, floor)) and from or floor
  lag = lag and group.lag and lag + group.lag
  waiting = waiting + group.pending
end
local removed = 0
if floor then
  local least, length = ARGV[1], tonumber(ARGV[2])
  if least ~= '-' and less(least, floor) then
    floor = least
  end
  if length >= 0 then
    local surplus = redis.call('XLEN', stream) - length
    if surplus <= 0 then
      floor = '0-0'
    else
      -- The first that stays: looked for only where fewer than all may go.
      local stays = redis.call('XRANGE', stream, '-', '(' .. floor, 'COUNT', surplus + 1)[surplus + 1]
      floor = stays and stays[1] or floor
    end
  end
  removed = redis.call('XTRIM', stream, 'MINID', floor)
end
local kept = #groups == 1 and lag and redis.call('XLEN', stream) - lag - waiting or -1
return {removed, kept, #groups}
