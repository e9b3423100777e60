-- Last step of a drain, at the hand-off: forgets a batch that the home has.
-- ARGV: batch
if call('HGET', META, 'batch') ~= ARGV[FIRST] then return { 'OK' } end
call('UNLINK', OUT, OUT .. '-order')
call('HDEL', META, 'batch')
return { 'OK' }
