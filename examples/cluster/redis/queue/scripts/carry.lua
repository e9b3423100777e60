-- Keeps messages as packets.
-- ARGV: of each: sequence there, its id there, packet
call('SADD', SHADOWS, MEMBER)
for i = FIRST, #ARGV, 3 do
  local sequence, id, packet = ARGV[i], ARGV[i + 1], cmsgpack.unpack(ARGV[i + 2])
  packet.t, packet.groups = nil, nil
  if packet.dedupe and packet.at + WINDOW > NOW then
    remember_dedupe(P, packet.dedupe, id, packet.at + WINDOW)
  end
  keep(P, sequence, id, packet)
end
call('HINCRBY', NODE, 'writes', 1)
return { 'OK' }
