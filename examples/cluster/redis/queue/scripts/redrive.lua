-- Gives dead letters all their attempts again, oldest first.
-- ARGV: group, how many at most
if not SETTINGS then return { 'NOTOPIC' } end
local group = find_group(ARGV[FIRST])
if not group then return { 'NOGROUP' } end
fire_group(group)
reveal()

-- A message of `key` comes back. Whether it is at the head: it goes before what was never
-- delivered, and waits for what was.
local function rejoin(sequence, key)
  if call('HSETNX', group.busy, key, text(sequence)) == 1 then return true end
  local name = call('HGET', group.busy, key)
  local head = tonumber(name)
  local x = exception(group, head)
  if (x and x.a > 0) or call('HEXISTS', group.own, name) == 1 then
    call('ZADD', group.parked, 0, keyed(key, sequence))
    return false
  end
  call('ZREM', group.ready, name)
  call('ZREM', group.hidden, name)
  call('ZADD', group.parked, 0, keyed(key, head))
  call('HSET', group.busy, key, text(sequence))
  return true
end

local count = math.min(call('LLEN', group.dead), tonumber(ARGV[FIRST + 1]))
for _ = 1, count do
  local dead = cmsgpack.unpack(call('LPOP', group.dead))
  local sequence = tonumber(dead.q)
  local foreign = dead.id ~= SHARD .. '-' .. dead.q and dead.id or nil
  if foreign then call('HSET', FOREIGN, foreign, dead.q) end
  call('HSET', group.own, dead.q, cmsgpack.pack({
    payload = dead.payload, key = dead.key, headers = dead.headers, at = dead.at, id = foreign,
  }))
  if not dead.key or rejoin(sequence, dead.key) then make_ready(group, sequence) end
end
call('HINCRBY', NODE, 'writes', 1)
if RANG then ring() end
return { 'OK', count, call('LLEN', group.dead) }
