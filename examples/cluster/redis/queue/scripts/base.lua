-- What every transition begins with: where things are, what time it is, and how they are written.
--
-- KEYS[1] prefix of an instance: dss:<cluster>:queue:{<topic>} at the topic's home, followed by
--         @<home> for a hand-off, which is kept for a home that cannot be reached
-- KEYS[2] prefix of what a node keeps for all topics: dss:<cluster>:queue
-- ARGV    now in ms ('': this server's clock), shard of this node, topic, home ('': this is it),
--         the mark that this node is known by
local P, NODE = KEYS[1], KEYS[2] .. ':node'
local SHARD, TOPIC, HOME = ARGV[2], ARGV[3], ARGV[4]
local FIRST = 6 -- of the arguments that are the transition's own
local call = redis.call

-- A node that has lost its data does nothing before that has been noticed and said.
if call('HGET', NODE, 'mark') ~= ARGV[5] then return { 'STRANGER' } end

local MICROS
if ARGV[1] == '' then
  local time = call('TIME')
  MICROS = time[1] * 1000000 + time[2]
else
  MICROS = ARGV[1] * 1000
end
local NOW = math.floor(MICROS / 1000)

local TIMERS_MAX = 1000 -- fired by one script: the server does nothing else meanwhile
local WINDOW = 300000 -- ms for which a dedupe id is remembered

local META, STREAM, GROUPS = P .. ':meta', P .. ':s', P .. ':groups'
local HIDDEN = P .. ':hidden' -- zset: sequence by the end of its publish delay
local SETTLED = P .. ':settled' -- hash: sequence to how many groups are done with it
local FOREIGN = P .. ':foreign' -- hash: id given by another node to the sequence here
local DEDUPE, DEDUPE_ENDS = P .. ':dedupe', P .. ':dedupe-ends'
local FENCES = P .. ':fences' -- hash: lock to the newest token under which was published
local FENCES_USED = P .. ':fences-used' -- zset: lock by when that was last
local FENCE_MEMORY = 86400000 -- ms for which that is remembered at least
local OUT = P .. ':out' -- hash: what is on its way to the home

-- A sequence is a number of microseconds, exact in a double until the year 2255.
local function text(sequence) return string.format('%.0f', sequence) end
local function stream_id(sequence)
  return string.format('%.0f-%.0f', math.floor(sequence / 1000), sequence % 1000)
end
local function sequence_of(id)
  local millis, rest = string.match(id, '^(%d+)-(%d+)$')
  return millis * 1000 + rest
end
-- Sorts by key, then by sequence; no key is the beginning of another's.
local function key_prefix(key) return string.format('%03d', #key) .. key end
local function keyed(key, sequence)
  return key_prefix(key) .. string.format('%016.0f', sequence)
end

-- Never given twice by a node, whatever the topic, for as long as it keeps its data or its clock.
local function mint()
  local last = tonumber(call('HGET', NODE, 'last') or 0)
  local sequence = math.max(last + 1, MICROS)
  call('HSET', NODE, 'last', text(sequence))
  return sequence
end

local function message_of(entry)
  local message, fields = {}, entry[2]
  for i = 1, #fields, 2 do message[fields[i]] = fields[i + 1] end
  return message
end
local function stored(sequence)
  local id = stream_id(sequence)
  local entry = call('XRANGE', STREAM, id, id)[1]
  return entry and message_of(entry)
end

local SETTINGS -- of the topic; nil where it does not exist
local function load_settings()
  local values = call('HMGET', META, 'visibility', 'max_attempts', 'retention', 'max_length')
  if not values[1] then return end
  SETTINGS = {
    visibility = tonumber(values[1]), max_attempts = tonumber(values[2]),
    retention = tonumber(values[3]), max_length = tonumber(values[4]),
  }
  -- The home decides what is too old or too many, once it has got it.
  if HOME ~= '' then SETTINGS.retention, SETTINGS.max_length = nil, nil end
end
load_settings()

local function write_settings(visibility, max_attempts, retention, max_length)
  call('HSET', META, 'topic', TOPIC, 'visibility', visibility, 'max_attempts', max_attempts,
    'retention', retention, 'max_length', max_length)
  load_settings()
end
local function split_settings(line)
  return string.match(line, '^(%S+) (%S+) (%S+) (%S+)$')
end

-- Answers whether it is new here. A hand-off takes the settings that this node was told of.
local function create()
  if SETTINGS then return false end
  local known = call('HGET', KEYS[2] .. ':topics', TOPIC) or '30000 5 - -'
  write_settings(split_settings(known))
  call('HSET', KEYS[2] .. ':topics', TOPIC, known)
  if HOME ~= '' then
    call('SADD', KEYS[2] .. ':handoffs', HOME .. ' ' .. TOPIC)
  end
  return true
end

-- Its topics outlive a home that has lost its data: other nodes know them.
if HOME == '' and call('HEXISTS', KEYS[2] .. ':topics', TOPIC) == 1 then create() end

-- Tells whoever waits for this topic, on any node of the cluster.
local function ring() call('PUBLISH', KEYS[2] .. ':bell', TOPIC) end
