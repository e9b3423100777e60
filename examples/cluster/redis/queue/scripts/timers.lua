-- What the passing of time brings about. Every script may do at most TIMERS_MAX of it.
local budget = TIMERS_MAX

local function due(key)
  if budget <= 0 then return {} end
  local members = call('ZRANGEBYSCORE', key, '-inf', NOW, 'LIMIT', 0, budget)
  budget = budget - #members
  return members
end

-- Leases and nack delays of one group.
local function fire_group(group)
  for _, name in ipairs(due(group.leases)) do
    local sequence = tonumber(name)
    call('ZREM', group.leases, name)
    local x = exception(group, sequence)
    if x then fail(group, sequence, x, 0, 'expired') end
  end
  for _, name in ipairs(due(group.waiting)) do
    local sequence = tonumber(name)
    call('ZREM', group.waiting, name)
    local x = exception(group, sequence)
    if x then
      x.s = 'R'
      put(group, sequence, x)
      make_ready(group, sequence)
    end
  end
end

-- Publish delays.
local function reveal()
  local names = due(HIDDEN)
  if #names == 0 then return end
  local groups = all_groups()
  for _, name in ipairs(names) do
    call('ZREM', HIDDEN, name)
    for _, group in ipairs(groups) do
      if call('ZREM', group.hidden, name) == 1 then make_ready(group, tonumber(name)) end
    end
    RANG = true
  end
end

local function fire_all()
  for _, group in ipairs(all_groups()) do fire_group(group) end
  reveal()
end

-- Drops a message for all groups. A lease on it stays: its holder may acknowledge it, and it is
-- gone if it comes back.
local function drop(sequence, message)
  local name = text(sequence)
  for _, group in ipairs(all_groups()) do
    if call('HEXISTS', group.own, name) == 0 then
      local x = exception(group, sequence)
      if x and x.s == 'L' then
        x.d = true
        put(group, sequence, x)
      else
        call('HDEL', group.x, name)
        call('ZREM', group.ready, name)
        call('ZREM', group.waiting, name)
        call('ZREM', group.hidden, name)
        if message.key then call('ZREM', group.parked, keyed(message.key, sequence)) end
        release(group, sequence, message.key)
      end
    end
  end
  remove(sequence, message.id)
end

-- Drops what is too old or, for `count` messages at most, one too many. What a lease that has ended
-- would make of a message comes before that.
local function drop_oldest(count)
  if not SETTINGS.retention and not SETTINGS.max_length then return end
  local fired = false
  while budget > 0 do
    local entry = call('XRANGE', STREAM, '-', '+', 'COUNT', 1)[1]
    if not entry then return end
    local message = message_of(entry)
    local old = SETTINGS.retention and message.at + SETTINGS.retention <= NOW
    local long = SETTINGS.max_length and call('XLEN', STREAM) > SETTINGS.max_length
    if not old and not (long and count > 0) then return end
    if fired then
      if not old then count = count - 1 end
      budget = budget - 1
      drop(sequence_of(entry[1]), message)
    else
      -- It may settle the very message: look again.
      fire_all()
      fired = true
    end
  end
end
