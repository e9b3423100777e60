-- The place was begun anew under a newer mark: nothing is added to what it was before that.
local seal = call('HGET', SEALS, KEEPER)
if seal and generation(seal) > generation(MARK) then return { 'SEALED' } end
if seal ~= MARK then call('HSET', SEALS, KEEPER, MARK) end
