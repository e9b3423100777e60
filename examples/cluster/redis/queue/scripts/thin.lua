-- Forgets messages that the place does not need any more.
-- ARGV: sequences
for i = FIRST, #ARGV do drop({ ARGV[i] }) end
call('HINCRBY', NODE, 'writes', 1)
return { 'OK' }
