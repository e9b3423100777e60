-- Takes back what this node has lost, from a shadow, once.
-- ARGV: shard of the node with the shadow, its mark, generation of that, 'm' or 'e', then messages
-- with their sequences, or dedupe ids with ids and when they end. Answers for each message where it is
-- here, and by which id.
local source, kind = 'revived ' .. ARGV[FIRST] .. ' ' .. ARGV[FIRST + 1], ARGV[FIRST + 3]
local bound = known_up_to(tonumber(ARGV[FIRST + 2]))
local cursor = tonumber(call('HGET', META, source) or 0)
local places = {}
create()
if kind == 'e' then
  for i = FIRST + 4, #ARGV, 3 do
    local dedupe, id, ends = unpack(ARGV, i, i + 2)
    if tonumber(ends) > NOW and not call('ZSCORE', DEDUPE_ENDS, dedupe) then
      call('HSET', DEDUPE, dedupe, id)
      call('ZADD', DEDUPE_ENDS, ends, dedupe)
    end
  end
else
  for i = FIRST + 4, #ARGV, 2 do
    local sequence, packet = tonumber(ARGV[i]), cmsgpack.unpack(ARGV[i + 1])
    if sequence > bound and sequence > cursor and not stored(sequence) then
      adopters.m(packet)
      cursor = sequence
    end
    places[#places + 1], places[#places + 2] = whereabouts(packet)
  end
  call('HSET', META, source, text(cursor))
end
call('HINCRBY', NODE, 'writes', 1)
if RANG then ring() end
return { 'OK', places }
