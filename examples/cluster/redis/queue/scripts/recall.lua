-- What is left to be restored from this shadow: settings of the topic, the oldest sequence that the
-- place needed, what groups have done, then the next messages with what each group knows of them,
-- or, where there are none, the next dedupe ids.
local COUNT_MAX, BYTES_MAX, IDS_MAX = 128, 1048576, 500
local groups, memories = call('HGETALL', GROUPS), {}
for i = 1, #groups, 2 do
  local memory, open, done = cmsgpack.unpack(groups[i + 1]), {}, {}
  for _, name in ipairs(memory.u) do open[name] = true end
  for _, name in ipairs(memory.d) do done[name] = true end
  memories[#memories + 1] = { name = groups[i], c = memory.c, open = open, done = done }
end

local messages, bytes = {}, 0
for _, name in ipairs(call('ZRANGE', ORDER, 0, COUNT_MAX - 1)) do
  local packet = cmsgpack.unpack(call('HGET', MESSAGES, name))
  bytes = bytes + #packet.payload
  if bytes > BYTES_MAX and #messages > 0 then break end
  packet.id, packet.groups = packet.id or (KEEPER .. '-' .. name), {}
  for _, memory in ipairs(memories) do
    if memory.done[name] or (tonumber(name) <= memory.c and not memory.open[name]) then
      packet.groups[#packet.groups + 1] = { g = memory.name, s = 'D' }
    end
  end
  messages[#messages + 1] = name
  messages[#messages + 1] = cmsgpack.pack(packet)
end
local ids = {}
if #messages == 0 then
  local flat = call('ZRANGE', DEDUPE_ENDS, 0, IDS_MAX - 1, 'WITHSCORES')
  for i = 1, #flat, 2 do
    ids[#ids + 1] = flat[i]
    ids[#ids + 1] = call('HGET', DEDUPE, flat[i])
    ids[#ids + 1] = flat[i + 1]
  end
end
local settings = call('HGET', KEYS[2] .. ':topics', TOPIC) or ''
return { 'OK', settings, call('HGET', META, 'floor') or '0', groups, messages, ids }
