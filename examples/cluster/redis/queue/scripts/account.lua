-- What shadows of this place need to know: whether it is there, the oldest sequence that it still
-- needs and the newest that was given, how many changes there were, how many messages there are,
-- what each group has done: c its cursor, u what of the passed is not settled, d what is settled
-- before it is passed; and whether something is on its way home.
local EXCEPTIONS_MAX = 1000 -- with more, a group is remembered from its oldest message on
local last = call('HGET', NODE, 'last') or '0'
local writes = call('HGET', NODE, 'writes') or '0'
if not SETTINGS then return { 'OK', '0', text(last + 1), last, writes, 0, {}, 0 } end

local entry = call('XRANGE', STREAM, '-', '+', 'COUNT', 1)[1]
local first = entry and sequence_of(entry[1]) or last + 1
local floor = first
-- What is on its way home may not have arrived.
for _, id in ipairs(call('HKEYS', OUT)) do
  floor = math.min(floor, tonumber(string.match(id, '%-(%d+)$')))
end

local function memory(group)
  local count = call('HLEN', group.x) + call('ZCARD', group.ready) + call('ZCARD', group.hidden)
    + call('ZCARD', group.parked) + call('ZCARD', group.ahead)
  if count > EXCEPTIONS_MAX then return { c = math.min(group.cursor, floor - 1), u = {}, d = {} } end
  local unsettled, done, seen = {}, {}, {}
  local function add(name)
    if seen[name] or call('HEXISTS', group.own, name) == 1 then return end
    seen[name] = true
    unsettled[#unsettled + 1] = name
  end
  for _, name in ipairs(call('HKEYS', group.x)) do add(name) end
  for _, name in ipairs(call('ZRANGE', group.ready, 0, -1)) do add(name) end
  for _, name in ipairs(call('ZRANGE', group.hidden, 0, -1)) do add(name) end
  for _, member in ipairs(call('ZRANGE', group.parked, 0, -1)) do
    add(text(tonumber(string.sub(member, -16))))
  end
  for _, name in ipairs(call('ZRANGE', group.ahead, 0, -1)) do
    if call('HEXISTS', group.x, name) == 0 then done[#done + 1] = name end
  end
  return { c = group.cursor, u = unsettled, d = done }
end

local groups = {}
for _, group in ipairs(all_groups()) do
  groups[#groups + 1] = group.name
  groups[#groups + 1] = cmsgpack.pack(memory(group))
end
return { 'OK', '1', text(floor), last, writes, call('XLEN', STREAM), groups, call('EXISTS', OUT) }
