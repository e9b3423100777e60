-- Second step of a drain, at the home: takes in what a hand-off has sent, once.
-- ARGV: shard of the hand-off, batch, the deletions that were counted here before the first step,
-- packets
local source, batch = ARGV[FIRST], tonumber(ARGV[FIRST + 1])
local deletions = call('HGET', NODE, 'deletions') or '0'
if deletions ~= ARGV[FIRST + 2] then return { 'DELETED' } end
local cursor = tonumber(call('HGET', META, 'drained ' .. source) or 0)

-- For each packet, where its message is here and by which id, for whoever keeps copies of them.
local function answer()
  local places = {}
  for i = FIRST + 3, #ARGV do
    local packet = cmsgpack.unpack(ARGV[i])
    local sequence, id = '', ''
    if packet.t == 'm' then sequence, id = whereabouts(packet) end
    places[#places + 1] = sequence
    places[#places + 1] = id
  end
  return { 'OK', places }
end
if batch <= cursor then return answer() end
create()
fire_all()
for i = FIRST + 3, #ARGV do
  local packet = cmsgpack.unpack(ARGV[i])
  adopters[packet.t](packet)
end
call('HSET', META, 'drained ' .. source, text(batch))
drop_oldest(TIMERS_MAX)
call('HINCRBY', NODE, 'writes', 1)
ring()
return answer()
