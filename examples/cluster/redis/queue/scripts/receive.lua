-- Leases messages to a consumer; creates the group. First those that came back, then new ones,
-- each oldest first.
-- ARGV: group, consumer, max, visibility in ms ('': the topic's), nonce, bytes at most
if not SETTINGS then return { 'NOTOPIC' } end
if not group_or_new(ARGV[FIRST]) then return { 'CROWDED' } end
local consumer, max = ARGV[FIRST + 1], tonumber(ARGV[FIRST + 2])
local visibility = tonumber(ARGV[FIRST + 3]) or SETTINGS.visibility
local nonce, bytes_max = ARGV[FIRST + 4], tonumber(ARGV[FIRST + 5])
local IN_FLIGHT_MAX, PASSED_MAX, READ_AT_ONCE = 100000, 1000, 32

reveal()
fire_group(find_group(ARGV[FIRST]))
drop_oldest(TIMERS_MAX)
local group = find_group(ARGV[FIRST])

local in_flight = call('ZCARD', group.leases)
if in_flight >= IN_FLIGHT_MAX then return { 'CROWDED' } end
max = math.min(max, IN_FLIGHT_MAX - in_flight)
local deliveries, bytes, full = {}, 0, false

-- Whether it was taken; one that does not fit stays the first to be found.
local function lease(sequence, message)
  local name = text(sequence)
  bytes = bytes + #message.payload
  if bytes > bytes_max and #deliveries > 0 then
    full = true
    call('ZADD', group.ready, sequence, name)
    return
  end
  local x = exception(group, sequence)
    or { a = 0, k = message.key or false, i = message.id or false }
  x.s, x.a, x.n, x.u, x.c = 'L', x.a + 1, nonce, NOW + visibility, consumer
  put(group, sequence, x)
  call('ZADD', group.leases, x.u, name)
  call('ZREM', group.ready, name)
  deliveries[#deliveries + 1] = {
    x.i or (SHARD .. '-' .. name), message.payload, x.k, message.headers or false, x.a,
    tonumber(message.at),
  }
end

for _, name in ipairs(call('ZRANGE', group.ready, 0, max - 1)) do
  local sequence = tonumber(name)
  local message = own(group, sequence) or stored(sequence)
  if message then lease(sequence, message) else call('ZREM', group.ready, name) end
  if full then break end
end

-- The cursor passes a message. Whether it can be delivered.
local function pass(sequence, message)
  group.cursor, group.passed = sequence, group.passed + 1
  local name = text(sequence)
  if call('ZREM', group.ahead, name) == 1 then return false end
  if message.key and call('HSETNX', group.busy, message.key, name) == 0 then
    call('ZADD', group.parked, 0, keyed(message.key, sequence))
    return false
  end
  if call('ZSCORE', HIDDEN, name) then
    call('ZADD', group.hidden, sequence, name)
    return false
  end
  return true
end

local passed, more = 0, false
while not full and #deliveries < max and passed < PASSED_MAX do
  local count = math.min(max - #deliveries, READ_AT_ONCE)
  local entries = call('XRANGE', STREAM, '(' .. stream_id(group.cursor), '+', 'COUNT', count)
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    local sequence, message = sequence_of(entry[1]), message_of(entry)
    if pass(sequence, message) then lease(sequence, message) else passed = passed + 1 end
    if full then break end
  end
end
call('HSET', group.m, 'cursor', text(group.cursor), 'passed', group.passed)
if #deliveries > 0 then call('HINCRBY', NODE, 'writes', 1) end

if full or #deliveries == max or passed >= PASSED_MAX or budget <= 0 then
  more = call('ZCARD', group.ready) > 0
    or #call('XRANGE', STREAM, '(' .. stream_id(group.cursor), '+', 'COUNT', 1) > 0
end
if more and #deliveries > 0 then ring() end
local next_due = -1
for _, key in ipairs({ group.leases, group.waiting, HIDDEN }) do
  local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  if first then
    local span = math.max(first - NOW, 0)
    if next_due < 0 or span < next_due then next_due = span end
  end
end
return { 'OK', deliveries, more and 1 or 0, next_due }
