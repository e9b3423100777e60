-- Forgets the topic, and stops what is on its way here: a drain that began before is refused.
local existed = SETTINGS ~= nil
if HOME == '' then call('HINCRBY', NODE, 'deletions', 1) end
forget()
call('HDEL', KEYS[2] .. ':topics', TOPIC)
call('HINCRBY', NODE, 'writes', 1)
ring()
return { existed and 'OK' or 'NOTOPIC' }
