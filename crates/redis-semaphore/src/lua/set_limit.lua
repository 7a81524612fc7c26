-- Changes the limit, whatever it was.
-- ARGV  1 limit, 2 form
-- Reply {1}; {-1, limit, form} there is another form; {-2, version} written by another version
local meta, other = read()
if not meta then
  return other
end
if meta[1] and meta[2] ~= ARGV[2] then
  return {-1, tonumber(meta[3]), meta[2]}
end
redis.call('HSET', KEYS[1], 'version', '1', 'form', ARGV[2], 'limit', ARGV[1])
wake()
return {1}
