-- Lists dead letters, oldest first.
-- ARGV: group, from where, how many at most, bytes at most
if not SETTINGS then return { 'NOTOPIC' } end
fire_all()
if RANG then ring() end
local group = find_group(ARGV[FIRST])
if not group then return { 'NOGROUP' } end
local from, count, bytes = tonumber(ARGV[FIRST + 1]), tonumber(ARGV[FIRST + 2]), tonumber(ARGV[FIRST + 3])
local letters = {}
while #letters < count and bytes > 0 do
  local packed = call('LINDEX', group.dead, from + #letters)
  if not packed then break end
  local dead = cmsgpack.unpack(packed)
  bytes = bytes - #dead.payload
  letters[#letters + 1] = {
    dead.id, dead.payload, dead.key or false, dead.headers or false, dead.attempts,
    tonumber(dead.at), dead.died, dead.reason, dead.consumer or false,
  }
end
return { 'OK', letters }
