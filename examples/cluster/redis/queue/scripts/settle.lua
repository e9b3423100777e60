-- What becomes of deliveries: done, returned, extended, never seen.
-- ARGV: group, what ('ack', 'nack', 'extend', 'back'), span in ms, then of each receipt: id, attempt,
-- nonce. Answers for each: done, stale, or moving: it is on its way to the topic's home.
if not SETTINGS then return { 'NOTOPIC' } end
local group = find_group(ARGV[FIRST])
if not group then return { 'NOGROUP' } end
local what, span = ARGV[FIRST + 1], tonumber(ARGV[FIRST + 2])
reveal()
fire_group(group)

-- The sequence of a message here, and its exception, if this delivery's lease is on.
local function leased(id, attempt, nonce)
  local shard, number = string.match(id, '^(%x+)-(%d+)$')
  local sequence = tonumber(shard == SHARD and number or nil)
  local x = sequence and exception(group, sequence)
  if not x then
    -- Another node gave the id, or this one did before it lost its data.
    sequence = tonumber(call('HGET', FOREIGN, id) or nil)
    x = sequence and exception(group, sequence)
  end
  if not x or x.s ~= 'L' or x.a ~= attempt or x.n ~= nonce then return end
  if (x.i or (SHARD .. '-' .. text(sequence))) ~= id then return end
  return sequence, x
end

local actions = {}
function actions.ack(sequence, x) settle(group, sequence, x) end
function actions.nack(sequence, x) fail(group, sequence, x, span, 'rejected') end
function actions.extend(sequence, x)
  x.u = NOW + span
  put(group, sequence, x)
  call('ZADD', group.leases, x.u, text(sequence))
end
function actions.back(sequence, x)
  if not still_there(group, sequence, x) then return end
  x.s, x.a = 'R', x.a - 1
  if x.a > 0 then put(group, sequence, x) else call('HDEL', group.x, text(sequence)) end
  make_ready(group, sequence)
end

local answers = {}
for i = FIRST + 3, #ARGV, 3 do
  local id = ARGV[i]
  local sequence, x = leased(id, tonumber(ARGV[i + 1]), ARGV[i + 2])
  if sequence then
    call('ZREM', group.leases, text(sequence))
    actions[what](sequence, x)
    answers[#answers + 1] = 'done'
  elseif call('HEXISTS', OUT, id) == 1 then
    answers[#answers + 1] = 'moving'
  else
    answers[#answers + 1] = 'stale'
  end
end
call('HINCRBY', NODE, 'writes', 1)
-- A delay may end before what waiting consumers know of.
if RANG or what == 'nack' then ring() end
return { 'OK', answers }
