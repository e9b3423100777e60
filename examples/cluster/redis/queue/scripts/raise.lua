-- No sequence up to this one is given again.
-- ARGV: sequence
if tonumber(ARGV[FIRST]) > tonumber(call('HGET', NODE, 'last') or 0) then
  call('HSET', NODE, 'last', ARGV[FIRST])
end
return { 'OK' }
