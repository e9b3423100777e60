-- Of what was published here under marks of this generation, this node knows everything up to a
-- sequence, also where it has lost data since.
local function known_up_to(generation)
  local bound
  local losses = call('HGETALL', KEYS[2] .. ':lost')
  for i = 1, #losses, 2 do
    local last = tonumber(losses[i + 1])
    if tonumber(losses[i]) > generation and (not bound or last < bound) then bound = last end
  end
  return bound or 0
end
