-- Begins a node anew that has lost data, unless somebody else has: it is restored before it is used.
-- KEYS[1] prefix of what a node keeps. ARGV: the mark that it has ('': none), its new mark, '1' where
-- what it has is an older state of what it was
local node = KEYS[1] .. ':node'
if (redis.call('HGET', node, 'mark') or '') ~= ARGV[1] then return 0 end
local last = ARGV[3] == '1' and redis.call('HGET', node, 'last') or '0'
redis.call('HSET', node, 'mark', ARGV[2], 'restoring', 1)
redis.call('HSET', KEYS[1] .. ':lost', string.match(ARGV[2], '^(%d+)%-'), last)
return 1
