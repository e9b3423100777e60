-- Taking in what comes from another node.

-- A message arrives with what a group knows of it.
local function arrive(group, sequence, x, key, id)
  local name = text(sequence)
  if sequence > group.cursor then call('ZADD', group.ahead, sequence, name) end
  if x.s == 'D' then return end
  x.k, x.i, x.g = key or false, id, nil
  put(group, sequence, x)
  local is_head = not key or call('HSETNX', group.busy, key, name) == 1
  if x.s == 'L' then
    call('ZADD', group.leases, x.u, name)
  elseif x.s == 'W' then
    call('ZADD', group.waiting, x.u, name)
  elseif is_head then
    make_ready(group, sequence)
  else
    call('ZADD', group.parked, 0, keyed(key, sequence))
  end
end

-- A group is done with a message that is stored here.
local function settle_done(group, sequence, message)
  local name = text(sequence)
  if sequence > group.cursor then
    if call('ZADD', group.ahead, sequence, name) == 1 then settle_stored(sequence, message.id) end
  elseif call('HEXISTS', group.own, name) == 0 then
    local unsettled = call('HEXISTS', group.x, name) + call('ZREM', group.leases, name)
      + call('ZREM', group.waiting, name) + call('ZREM', group.ready, name)
      + call('ZREM', group.hidden, name)
    if message.key then
      unsettled = unsettled + call('ZREM', group.parked, keyed(message.key, sequence))
    end
    if unsettled > 0 then
      settle(group, sequence, { k = message.key or false, i = message.id })
    end
  end
end

-- Where a message of this id is here, if it is.
local function sequence_here(id)
  local shard, own = string.match(id, '^(%x+)-(%d+)$')
  return tonumber(call('HGET', FOREIGN, id) or (shard == SHARD and own) or nil)
end

-- The same message is here already: what a group has acknowledged there is done here.
local function settle_known(packet, id)
  local sequence = sequence_here(id)
  for _, x in ipairs(packet.groups) do
    local message = sequence and stored(sequence)
    local group = message and x.s == 'D' and group_or_new(x.g)
    if group then settle_done(group, sequence, message) end
  end
end

-- The sequence and the id of what a packet has become, where that is still here.
local function whereabouts(packet)
  local id = packet.id
  local known = packet.dedupe and call('HEXISTS', FOREIGN, id) == 0
  local sequence = sequence_here(known and call('HGET', DEDUPE, packet.dedupe) or id)
  if not sequence then return '', '' end
  local message = stored(sequence)
  if not message then return '', '' end
  return text(sequence), message.id or (SHARD .. '-' .. text(sequence))
end

local adopters = {}
function adopters.m(packet)
  if call('HEXISTS', FOREIGN, packet.id) == 1 then return settle_known(packet, packet.id) end
  local ends = packet.dedupe and call('ZSCORE', DEDUPE_ENDS, packet.dedupe)
  if ends and tonumber(packet.at) < tonumber(ends) then
    return settle_known(packet, call('HGET', DEDUPE, packet.dedupe))
  end
  if packet.dedupe then
    call('HSET', DEDUPE, packet.dedupe, packet.id)
    call('ZADD', DEDUPE_ENDS, packet.at + WINDOW, packet.dedupe)
  end
  local done = 0
  for _, x in ipairs(packet.groups) do
    group_or_new(x.g)
    if x.s == 'D' then done = done + 1 end
  end
  -- At a hand-off there may be groups that only the home knows.
  if HOME == '' and done > 0 and done >= call('HLEN', GROUPS) then return end
  local sequence = mint()
  local entry = { 'XADD', STREAM, stream_id(sequence), 'at', packet.at, 'payload', packet.payload }
  for _, field in ipairs({ 'key', 'headers', 'dedupe', 'id' }) do
    if packet[field] then
      entry[#entry + 1] = field
      entry[#entry + 1] = packet[field]
    end
  end
  call(unpack(entry))
  call('HSET', FOREIGN, packet.id, text(sequence))
  if packet.hidden and packet.hidden > NOW then
    call('ZADD', HIDDEN, packet.hidden, text(sequence))
  end
  if HOME == '' and done > 0 then call('HSET', SETTLED, text(sequence), done) end
  for _, x in ipairs(packet.groups) do
    local group = group_or_new(x.g)
    if group then arrive(group, sequence, x, packet.key, packet.id) end
  end
  RANG = true
end

-- The sequence here of what another node gave an id.
local function local_sequence(id)
  local known = call('HGET', FOREIGN, id)
  local sequence = known and tonumber(known) or mint()
  if not known then call('HSET', FOREIGN, id, text(sequence)) end
  return sequence
end

function adopters.o(packet)
  local group = group_or_new(packet.g)
  local sequence = local_sequence(packet.id)
  call('HSET', group.own, text(sequence), cmsgpack.pack({
    payload = packet.payload, key = packet.key, headers = packet.headers, at = packet.at,
    id = packet.id,
  }))
  if packet.x then
    arrive(group, sequence, packet.x, packet.key, packet.id)
    if not stored(sequence) then call('ZREM', group.ahead, text(sequence)) end
  elseif not packet.key or call('HSETNX', group.busy, packet.key, text(sequence)) == 1 then
    make_ready(group, sequence)
  else
    call('ZADD', group.parked, 0, keyed(packet.key, sequence))
  end
end

function adopters.d(packet)
  local group = group_or_new(packet.g)
  local sequence = call('HGET', FOREIGN, packet.id) or text(mint())
  packet.t, packet.g, packet.q = nil, nil, sequence
  call('RPUSH', group.dead, cmsgpack.pack(packet))
end

