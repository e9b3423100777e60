-- Which of these messages this place does not need any more.
-- ARGV: sequences
local missing = {}
-- What is on its way home is in no stream.
if call('EXISTS', OUT) == 1 then return { 'OK', missing } end
for i = FIRST, #ARGV do
  if not stored(tonumber(ARGV[i])) then missing[#missing + 1] = ARGV[i] end
end
return { 'OK', missing }
