-- Messages that are here, as packets, for a shadow that does not have them.
-- ARGV: from which sequence on. Answers where to go on ('': that was all), and of each message:
-- sequence, id, packet.
local COUNT_MAX, BYTES_MAX = 128, 1048576
local entries = call('XRANGE', STREAM, stream_id(tonumber(ARGV[FIRST])), '+', 'COUNT', COUNT_MAX)
local answers, bytes, reached = {}, 0, nil
for _, entry in ipairs(entries) do
  if bytes > BYTES_MAX then break end
  local message, name = message_of(entry), text(sequence_of(entry[1]))
  bytes, reached = bytes + #message.payload, name
  message.hidden = tonumber(call('ZSCORE', HIDDEN, name) or nil)
  answers[#answers + 1] = name
  answers[#answers + 1] = message.id or (SHARD .. '-' .. name)
  answers[#answers + 1] = cmsgpack.pack(message)
end
local is_all = #entries < COUNT_MAX and #answers == 3 * #entries
return { 'OK', is_all and '' or text(tonumber(reached) + 1), answers }
