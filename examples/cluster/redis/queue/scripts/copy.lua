-- Keeps what was just published.
-- ARGV: when, then of each message: sequence, id, payload, key, headers, delay, dedupe id ('' for
-- what it does not have)
local at = ARGV[FIRST]
call('SADD', SHADOWS, MEMBER)
for i = FIRST + 1, #ARGV, 7 do
  local sequence, id, payload, key, headers, delay, dedupe = unpack(ARGV, i, i + 6)
  local packet = { at = at, payload = payload }
  if key ~= '' then packet.key = key end
  if headers ~= '' then packet.headers = headers end
  if delay ~= '0' then packet.hidden = at + delay end
  if dedupe ~= '' then
    packet.dedupe = dedupe
    remember_dedupe(P, dedupe, id, at + WINDOW)
  end
  keep(P, sequence, id, packet)
end
call('HINCRBY', NODE, 'writes', 1)
return { 'OK' }
