-- What the place has again is kept under its newer mark.
-- ARGV: prefix of the newer shadow, its member of the list, 'm' or 'e', then of each message: its old
-- sequence, its new one and its id ('' where it is not there any more); or dedupe ids
local newer, member, kind = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2]
call('SADD', SHADOWS, member)
if kind == 'm' then
  for i = FIRST + 3, #ARGV, 3 do
    local old, new, id = unpack(ARGV, i, i + 2)
    local packed = call('HGET', MESSAGES, old)
    if packed and new ~= '' then
      keep(newer, new, id, cmsgpack.unpack(packed))
    end
    drop({ old })
  end
else
  for i = FIRST + 3, #ARGV do
    local id, ends = call('HGET', DEDUPE, ARGV[i]), call('ZSCORE', DEDUPE_ENDS, ARGV[i])
    if id and ends then remember_dedupe(newer, ARGV[i], id, ends) end
    call('HDEL', DEDUPE, ARGV[i])
    call('ZREM', DEDUPE_ENDS, ARGV[i])
  end
end
call('HINCRBY', NODE, 'writes', 1)
return { 'OK' }
