-- Stores messages, all or none; creates the topic. One whose dedupe id is known stores nothing.
-- Answers the ids, the time, and of those that were known the number in the batch and where that
-- message is ('': it is not here any more).
-- ARGV: epoch of the ring, lock and fencing token ('' for none), then of each message: payload,
-- key, headers, delay, dedupe id ('' for what it does not have)
local MESSAGES = FIRST + 3
local epoch = tonumber(ARGV[FIRST])
local sealed = tonumber(call('HGET', NODE, 'epoch') or 0)
if epoch < sealed then return { 'STALE', text(sealed) } end
if SETTINGS and SETTINGS.retention then
  for i = MESSAGES, #ARGV, 5 do
    if tonumber(ARGV[i + 3]) >= SETTINGS.retention then return { 'DELAY' } end
  end
end
-- Tokens have up to twenty digits: more than a number keeps apart.
local function is_older(token, than)
  if #token ~= #than then return #token < #than end
  return token < than
end
local lock, token = ARGV[FIRST + 1], ARGV[FIRST + 2]
if lock ~= '' then
  local newest = call('HGET', FENCES, lock)
  if newest and is_older(token, newest) then return { 'FENCED' } end
  if not newest and call('HLEN', FENCES) >= 1000 then
    local forgotten = call('ZRANGEBYSCORE', FENCES_USED, '-inf', NOW - FENCE_MEMORY, 'LIMIT', 0, 1)
    if #forgotten == 0 then return { 'LOCKS' } end
    call('ZREM', FENCES_USED, forgotten[1])
    call('HDEL', FENCES, forgotten[1])
  end
  call('HSET', FENCES, lock, token)
  call('ZADD', FENCES_USED, NOW, lock)
end
local created = create()

local ended = call('ZRANGEBYSCORE', DEDUPE_ENDS, '-inf', NOW, 'LIMIT', 0, 100)
for _, id in ipairs(ended) do
  call('ZREM', DEDUPE_ENDS, id)
  call('HDEL', DEDUPE, id)
end

local ids, known, fresh = {}, {}, 0
for i = MESSAGES, #ARGV, 5 do
  local key, headers, delay, dedupe = ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4]
  local ends = dedupe ~= '' and call('ZSCORE', DEDUPE_ENDS, dedupe)
  if ends and tonumber(ends) > NOW then
    local id = call('HGET', DEDUPE, dedupe)
    local shard, number = string.match(id, '^(%x+)-(%d+)$')
    local sequence = tonumber(call('HGET', FOREIGN, id) or (shard == SHARD and number) or nil)
    known[#known + 1] = text(#ids)
    known[#known + 1] = sequence and stored(sequence) and text(sequence) or ''
    ids[#ids + 1] = id
  else
    local sequence = mint()
    local id = SHARD .. '-' .. text(sequence)
    local entry = { 'XADD', STREAM, stream_id(sequence), 'at', text(NOW), 'payload', ARGV[i] }
    local function field(name, value)
      entry[#entry + 1] = name
      entry[#entry + 1] = value
    end
    if key ~= '' then field('key', key) end
    if headers ~= '' then field('headers', headers) end
    if dedupe ~= '' then
      field('dedupe', dedupe)
      call('HSET', DEDUPE, dedupe, id)
      call('ZADD', DEDUPE_ENDS, NOW + WINDOW, dedupe)
    end
    call(unpack(entry))
    if delay > 0 then call('ZADD', HIDDEN, NOW + delay, text(sequence)) end
    ids[#ids + 1] = id
    fresh = fresh + 1
  end
end
drop_oldest(fresh)
call('HINCRBY', NODE, 'writes', 1)
if fresh > 0 then ring() end
return { 'OK', created and 1 or 0, ids, NOW, known }
