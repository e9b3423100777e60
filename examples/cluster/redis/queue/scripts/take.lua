-- First step of a drain, at the hand-off: puts the oldest messages, with what every group knows of
-- them, where nothing but the last step touches them, and answers them under a batch number that
-- rises from drain to drain. Repeated, it answers the same; where nothing is left, the hand-off is
-- forgotten.
if not SETTINGS then return { 'GONE' } end
local ORDER, COUNT_MAX, BYTES_MAX, READ_AT_ONCE = OUT .. '-order', 128, 1048576, 16
local function answer()
  return { 'OK', call('HGET', META, 'batch'), call('LRANGE', ORDER, 0, -1) }
end
if call('EXISTS', ORDER) == 1 then return answer() end

reveal()
fire_all()
local groups, count, bytes = all_groups(), 0, 0
local function send(id, packet)
  call('HSET', OUT, id, 1)
  call('RPUSH', ORDER, cmsgpack.pack(packet))
  count, bytes = count + 1, bytes + #(packet.payload or '')
end

-- Takes an exception out of its group.
local function extract(group, name)
  local x = exception(group, tonumber(name))
  call('HDEL', group.x, name)
  for _, key in ipairs({ group.ready, group.leases, group.waiting }) do call('ZREM', key, name) end
  return x
end

-- What the group knows of a message; nil where it never touched it. The head of a key stays the
-- head here: what is parked behind it follows it home, and is not delivered before that.
local function history(group, sequence, message)
  local name = text(sequence)
  if sequence > group.cursor then
    if call('ZREM', group.ahead, name) == 0 then return nil end
    return extract(group, name) or { s = 'D' }
  end
  if call('HEXISTS', group.own, name) == 1 then return { s = 'D' } end
  if call('HEXISTS', group.x, name) == 1 then
    if message.key then call('ZREM', group.parked, keyed(message.key, sequence)) end
    return extract(group, name)
  end
  local untouched = call('ZREM', group.ready, name) + call('ZREM', group.hidden, name)
  if message.key then
    untouched = untouched + call('ZREM', group.parked, keyed(message.key, sequence))
  end
  if untouched > 0 then return nil end
  return { s = 'D' }
end

local function take_message(entry)
  local sequence, message = sequence_of(entry[1]), message_of(entry)
  local name = text(sequence)
  message.t, message.id = 'm', message.id or (SHARD .. '-' .. name)
  message.hidden = tonumber(call('ZSCORE', HIDDEN, name) or nil)
  message.groups = {}
  for _, group in ipairs(groups) do
    local x = history(group, sequence, message)
    if sequence <= group.cursor then call('HINCRBY', group.m, 'passed', -1) end
    if x then
      x.g = group.name
      message.groups[#message.groups + 1] = x
    end
  end
  call('XDEL', STREAM, entry[1])
  call('ZREM', HIDDEN, name)
  send(message.id, message)
end

while count < COUNT_MAX and bytes < BYTES_MAX do
  local entries = call('XRANGE', STREAM, '-', '+', 'COUNT', READ_AT_ONCE)
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do take_message(entry) end
end
for _, group in ipairs(groups) do
  while count < COUNT_MAX and bytes < BYTES_MAX do
    local name = call('HRANDFIELD', group.own)
    if not name then break end
    local message = own(group, tonumber(name))
    message.t, message.g, message.id = 'o', group.name, SHARD .. '-' .. name
    if message.key then call('ZREM', group.parked, keyed(message.key, tonumber(name))) end
    message.x = extract(group, name)
    call('HDEL', group.own, name)
    send(message.id, message)
  end
  while count < COUNT_MAX and bytes < BYTES_MAX do
    local packed = call('LPOP', group.dead)
    if not packed then break end
    local dead = cmsgpack.unpack(packed)
    dead.t, dead.g = 'd', group.name
    send(dead.id, dead)
  end
end
if count == 0 then
  forget()
  return { 'GONE' }
end
call('HSET', META, 'batch', text(mint()))
return answer()
