-- One consumer group: a cursor plus exceptions, as in dss_queue, whose words are used here.
--
-- Keys of group n, below <prefix>:g<n>:
--   m        hash: cursor, and how many messages of the stream are behind it ('passed')
--   x        hash: sequence to its exception, where it was delivered at least once
--   leases   zset: sequence by the end of its lease
--   waiting  zset: sequence by the end of its nack delay
--   ready    zset: sequences that the next receive takes before it moves the cursor
--   ahead    zset: sequences past the cursor that it skips: they came with a history
--   hidden   zset: passed sequences whose publish delay is not over, and which are not parked
--   parked   zset of equal scores: passed, behind the head of their key
--   busy     hash: key to its head
--   own      hash: sequence to a message that is not the stream's: redriven
--   dead     list of dead letters, oldest death first
local function open_group(number, name)
  local base = P .. ':g' .. number .. ':'
  local values = call('HMGET', base .. 'm', 'cursor', 'passed')
  return {
    number = number, name = name, cursor = tonumber(values[1] or 0), passed = tonumber(values[2] or 0),
    m = base .. 'm', x = base .. 'x', leases = base .. 'leases', waiting = base .. 'waiting',
    ready = base .. 'ready', ahead = base .. 'ahead', hidden = base .. 'hidden',
    parked = base .. 'parked', busy = base .. 'busy', own = base .. 'own', dead = base .. 'dead',
  }
end
local function find_group(name)
  local number = call('HGET', GROUPS, name)
  return number and open_group(number, name)
end
local function all_groups()
  local groups, flat = {}, call('HGETALL', GROUPS)
  for i = 1, #flat, 2 do groups[#groups + 1] = open_group(flat[i + 1], flat[i]) end
  return groups
end
local function group_or_new(name)
  local number = call('HGET', GROUPS, name)
  if not number then
    if call('HLEN', GROUPS) >= 1000 then return nil end
    number = call('HINCRBY', META, 'groups', 1)
    call('HSET', GROUPS, name, number)
  end
  return open_group(number, name)
end

-- An exception: s state (L leased, R ready, W waiting), a attempts, n nonce, u until, c consumer,
-- k key, i id where another node gave it, d whether the message was dropped meanwhile.
local function exception(group, sequence)
  local packed = call('HGET', group.x, text(sequence))
  return packed and cmsgpack.unpack(packed)
end
local function put(group, sequence, x)
  call('HSET', group.x, text(sequence), cmsgpack.pack(x))
end
local function own(group, sequence)
  local packed = call('HGET', group.own, text(sequence))
  return packed and cmsgpack.unpack(packed)
end

local RANG = false -- whether something became ready
local function make_ready(group, sequence)
  call('ZADD', group.ready, sequence, text(sequence))
  RANG = true
end

-- The message is done with: where it was the head of its key, the next one follows.
local function release(group, sequence, key)
  if not key or call('HGET', group.busy, key) ~= text(sequence) then return end
  local prefix = key_prefix(key)
  local parked =
    call('ZRANGEBYLEX', group.parked, '[' .. prefix, '(' .. prefix .. ':', 'LIMIT', 0, 1)[1]
  if not parked then
    call('HDEL', group.busy, key)
    return
  end
  local head = tonumber(string.sub(parked, #prefix + 1))
  call('ZREM', group.parked, parked)
  call('HSET', group.busy, key, text(head))
  if call('ZSCORE', HIDDEN, text(head)) then
    call('ZADD', group.hidden, head, text(head))
  else
    make_ready(group, head)
  end
end

-- Takes a message out of the stream, whatever groups think of it.
local function remove(sequence, id)
  local name = text(sequence)
  call('XDEL', STREAM, stream_id(sequence))
  call('HDEL', SETTLED, name)
  call('ZREM', HIDDEN, name)
  if id then call('HDEL', FOREIGN, id) end
  for _, group in ipairs(all_groups()) do
    if sequence > group.cursor then
      call('ZREM', group.ahead, name)
    else
      call('HINCRBY', group.m, 'passed', -1)
    end
  end
end

-- One more group is done with a message; the last one's word forgets it. A hand-off forgets
-- nothing: there may be groups that only the home knows.
local function settle_stored(sequence, id)
  if HOME ~= '' then return end
  local count = call('HINCRBY', SETTLED, text(sequence), 1)
  if count >= call('HLEN', GROUPS) then remove(sequence, id) end
end

-- The group is done with the message for good, and its exception is over.
local function settle(group, sequence, x)
  call('HDEL', group.x, text(sequence))
  if call('HDEL', group.own, text(sequence)) == 0 then
    if not x.d then settle_stored(sequence, x.i) end
  elseif x.i and not stored(sequence) then
    call('HDEL', FOREIGN, x.i)
  end
  release(group, sequence, x.k)
end

local function die(group, sequence, x, message, reason)
  call('RPUSH', group.dead, cmsgpack.pack({
    q = text(sequence), id = message.id or (SHARD .. '-' .. text(sequence)),
    payload = message.payload, key = message.key, headers = message.headers, at = message.at,
    attempts = x.a, died = NOW, reason = reason, consumer = x.c,
  }))
  settle(group, sequence, x)
end

-- The message of an exception that is leased no longer; one that was dropped meanwhile is gone.
local function still_there(group, sequence, x)
  local message = own(group, sequence) or stored(sequence)
  if not message then
    call('HDEL', group.x, text(sequence))
    release(group, sequence, x.k)
  end
  return message
end

-- A delivery came to nothing: again after `delay`, or to the dead letters.
local function fail(group, sequence, x, delay, reason)
  local message = still_there(group, sequence, x)
  if not message then return end
  if x.a >= SETTINGS.max_attempts then
    die(group, sequence, x, message, reason)
  elseif delay == 0 then
    x.s = 'R'
    put(group, sequence, x)
    make_ready(group, sequence)
  else
    x.s, x.u = 'W', NOW + delay
    put(group, sequence, x)
    call('ZADD', group.waiting, x.u, text(sequence))
  end
end
