-- Takes an account of the place, and forgets what that does not need any more.
-- ARGV: whether the place is there, the oldest sequence it needs, the newest that was given, its
-- changes, '1' where all that it has is known to be here, then groups with what they have done
local DROPPED_MAX = 1000
local there, floor, last, changes = unpack(ARGV, FIRST, FIRST + 3)
local whole = call('HGET', META, 'whole') or '0'
if tonumber(changes) < tonumber(call('HGET', META, 'changes') or 0) then
  return { 'OK', 0, call('ZCARD', ORDER), whole }
end
if ARGV[FIRST + 4] == '1' then whole = '1' end
note_copied(last)
local gone = call('ZRANGEBYSCORE', ORDER, '-inf', '(' .. floor, 'LIMIT', 0, DROPPED_MAX)
drop(gone)
for _, id in ipairs(call('ZRANGEBYSCORE', DEDUPE_ENDS, '-inf', NOW, 'LIMIT', 0, DROPPED_MAX)) do
  call('ZREM', DEDUPE_ENDS, id)
  call('HDEL', DEDUPE, id)
end
if there == '0' then
  if call('ZCARD', ORDER) + call('ZCARD', DEDUPE_ENDS) == 0 then forget_shadow() end
else
  call('SADD', SHADOWS, MEMBER)
  call('HSET', META, 'changes', changes, 'floor', floor, 'whole', whole)
  call('UNLINK', GROUPS)
  for i = FIRST + 5, #ARGV, 2 do call('HSET', GROUPS, ARGV[i], ARGV[i + 1]) end
end
return { 'OK', #gone == DROPPED_MAX and 1 or 0, call('ZCARD', ORDER), whole }
