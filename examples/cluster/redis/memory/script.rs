//! What a server executes, each in one step.

use std::sync::LazyLock;

use redis::Script;

/// What every operation begins with. Numbers that need all 64 bits are texts or bytes of equal
/// lengths: numbers in Lua have 53, and its `<` compares texts by the rules of a language.
///
/// Keys: `memory`. Arguments: owner, era and writes that are known, the fence that is wanted.
const PRELUDE: &str = "
local function less(a, b)
  for i = 1, #a do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return false
end
local zero = string.rep('0', 20)
local has = redis.call('HMGET', KEYS[1], 'owner', 'era', 'writes', 'fence', 'newest')
local owner, era, writes = has[1], tonumber(has[2] or '0'), tonumber(has[3] or '0')
local known_era, known_writes = tonumber(ARGV[2]), tonumber(ARGV[3])
if owner ~= ARGV[1] then return {'owner', era, writes, owner} end
if era < known_era or (era == known_era and writes < known_writes) then
  return {'older', era, writes, false}
end
local fence, newest = has[4] or zero, has[5] or zero
if less(fence, ARGV[4]) then
  fence = ARGV[4]
  redis.call('HSET', KEYS[1], 'fence', fence)
end
";

/// Loads the record of a key.
pub(super) static LOAD: LazyLock<Script> =
    LazyLock::new(|| script("return {'loaded', era, writes, redis.call('GET', KEYS[2])}"));

/// Stores a record: arguments 5 and 6 are the writer's epoch and the record.
pub(super) static STORE: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
if less(ARGV[5], fence) then return {'fenced', era, writes, fence} end
local version, stored = string.sub(ARGV[6], 1, 24), redis.call('GETRANGE', KEYS[2], 0, 23)
if stored ~= '' and less(version, stored) then return {'stale', era, writes, stored} end
if version ~= stored then
  writes = redis.call('HINCRBY', KEYS[1], 'writes', 1)
  if less(newest, ARGV[5]) then redis.call('HSET', KEYS[1], 'newest', ARGV[5]) end
  redis.call('SET', KEYS[2], ARGV[6])
end
return {'stored', era, writes, false}",
    )
});

/// Says where the fence is, which may just have been raised.
pub(super) static FENCE: LazyLock<Script> =
    LazyLock::new(|| script("return {'fence', era, writes, fence}"));

/// Makes this cluster the owner. Arguments: the owner, its servers, the former owner or nothing.
/// Returns who owns the server then, and the highest epoch that was ever used on it.
pub(super) static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local has = redis.call('HMGET', KEYS[1], 'owner', 'fence', 'newest')
local owner, zero = has[1] or '', string.rep('0', 20)
if owner ~= ARGV[1] then
  if owner ~= ARGV[3] then return {owner, zero, zero} end
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'servers', ARGV[2])
end
return {ARGV[1], has[2] or zero, has[3] or zero}",
    )
});

fn script(body: &str) -> Script {
    Script::new(&format!("{PRELUDE}{body}"))
}
