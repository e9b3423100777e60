-- Creates the topic or changes its settings.
-- ARGV: visibility, max_attempts, retention, max_length ('-' for none)
local visibility, attempts, retention, length = unpack(ARGV, FIRST, FIRST + 3)
write_settings(visibility, attempts, retention, length)
if HOME == '' then
  local line = table.concat({ visibility, attempts, retention, length }, ' ')
  call('HSET', KEYS[2] .. ':topics', TOPIC, line)
end
fire_all()
drop_oldest(TIMERS_MAX)
call('HINCRBY', NODE, 'writes', 1)
if RANG then ring() end
return { 'OK' }
