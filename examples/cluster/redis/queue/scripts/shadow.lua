-- A shadow: what this node keeps of a place on another one, which it is told of by whoever works
-- there. It serves nobody; it is there to restore the place from, should that be lost.
--
-- ARGV: shard of the node that has the place, the mark that node was known by, and the home where
-- the place is a hand-off ('' where it is the home)
-- Keys below <prefix of the place>~<shard>~<mark>, which is KEYS[1]:
--   order     zset: sequences there
--   messages  hash: sequence there to the message
--   groups    hash: group to what it has done
--   dedupe, dedupe-ends, meta
local KEEPER, MARK, OF = ARGV[FIRST], ARGV[FIRST + 1], ARGV[FIRST + 2]
FIRST = FIRST + 3
local ORDER, MESSAGES = P .. ':order', P .. ':messages'
local SEALS = KEYS[2] .. ':seals' -- hash: node to the newest mark that it was seen to have
local COPIED = KEYS[2] .. ':copied' -- hash: node to the newest sequence it is known to have given
local SHADOWS = KEYS[2] .. ':shadows' -- set: '<node> <mark> <home or -> <topic>'
local MEMBER = table.concat({ KEEPER, MARK, OF == '' and '-' or OF, TOPIC }, ' ')

local function generation(mark) return tonumber(string.match(mark, '^(%d+)%-')) end

local function note_copied(sequence)
  local newest = tonumber(call('HGET', COPIED, KEEPER) or 0)
  if tonumber(sequence) > newest then call('HSET', COPIED, KEEPER, sequence) end
end

-- Adds a message, once, to the shadow with this prefix. Its id is kept where that is another one
-- than its place there would give it.
local function keep(prefix, sequence, id, packet)
  packet.id = id ~= KEEPER .. '-' .. sequence and id or nil
  if call('HSETNX', prefix .. ':messages', sequence, cmsgpack.pack(packet)) == 1 then
    call('ZADD', prefix .. ':order', sequence, sequence)
  end
  note_copied(sequence)
end

local function remember_dedupe(prefix, dedupe, id, ends)
  if call('HSETNX', prefix .. ':dedupe', dedupe, id) == 1 then
    call('ZADD', prefix .. ':dedupe-ends', ends, dedupe)
  end
end

local function drop(sequences)
  for _, sequence in ipairs(sequences) do
    call('HDEL', MESSAGES, sequence)
    call('ZREM', ORDER, sequence)
  end
end

local function forget_shadow()
  call('UNLINK', ORDER, MESSAGES, GROUPS, DEDUPE, DEDUPE_ENDS, META)
  call('SREM', SHADOWS, MEMBER)
end
