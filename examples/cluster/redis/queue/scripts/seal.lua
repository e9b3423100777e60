-- From here on nothing is added to shadows of what the node was before it had this mark. Answers the
-- newest sequence that it is known to have given, and all shadows that are kept here.
local seal = call('HGET', SEALS, KEEPER)
if not seal or generation(seal) <= generation(MARK) then call('HSET', SEALS, KEEPER, MARK) end
return { 'OK', call('HGET', COPIED, KEEPER) or '0', call('SMEMBERS', SHADOWS) }
