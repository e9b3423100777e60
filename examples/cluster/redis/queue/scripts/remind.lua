-- Before messages come back: the topic, its groups, and what they have done with messages that are
-- here, in an older state than it once was.
-- ARGV: generation of the shadow, settings of the topic, the oldest sequence that was needed, from
-- which sequence on, then groups with what they have done. Answers where to go on ('': done).
local AT_ONCE = 64
local bound = known_up_to(tonumber(ARGV[FIRST]))
local settings, floor, from = ARGV[FIRST + 1], tonumber(ARGV[FIRST + 2]), tonumber(ARGV[FIRST + 3])
if settings ~= '' and (not SETTINGS or call('HEXISTS', NODE, 'restoring') == 1) then
  call('HSET', KEYS[2] .. ':topics', TOPIC, settings)
  if SETTINGS then write_settings(split_settings(settings)) end
end
create()
local memories = {}
for i = FIRST + 4, #ARGV, 2 do
  if group_or_new(ARGV[i]) then
    local memory, open, done = cmsgpack.unpack(ARGV[i + 1]), {}, {}
    for _, name in ipairs(memory.u) do open[name] = true end
    for _, name in ipairs(memory.d) do done[name] = true end
    memories[#memories + 1] = { name = ARGV[i], c = memory.c, open = open, done = done }
  end
end
local entries = {}
if from <= bound then
  entries = call('XRANGE', STREAM, stream_id(from), stream_id(bound), 'COUNT', AT_ONCE)
end
local reached
for _, entry in ipairs(entries) do
  local sequence, message = sequence_of(entry[1]), message_of(entry)
  local name = text(sequence)
  reached = sequence
  if sequence < floor then
    drop(sequence, message)
  else
    for _, memory in ipairs(memories) do
      if memory.done[name] or (sequence <= memory.c and not memory.open[name]) then
        local group = stored(sequence) and find_group(memory.name)
        if group then settle_done(group, sequence, message) end
      end
    end
  end
end
call('HINCRBY', NODE, 'writes', 1)
return { 'OK', #entries == AT_ONCE and text(reached + 1) or '' }
