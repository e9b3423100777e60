-- Forgets all shadows of a topic, whoever has the place.
for _, member in ipairs(call('SMEMBERS', KEYS[2] .. ':shadows')) do
  local keeper, mark, home, topic = string.match(member, '^(%S+) (%S+) (%S+) (.*)$')
  if topic == TOPIC then
    local prefix = KEYS[2] .. ':{' .. TOPIC .. '}' .. (home == '-' and '' or '@' .. home)
    prefix = prefix .. '~' .. keeper .. '~' .. mark
    for _, key in ipairs({ 'order', 'messages', 'groups', 'dedupe', 'dedupe-ends', 'meta' }) do
      call('UNLINK', prefix .. ':' .. key)
    end
    call('SREM', KEYS[2] .. ':shadows', member)
  end
end
return { 'OK' }
