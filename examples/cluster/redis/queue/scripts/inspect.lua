-- The topic at a glance, after what is due has happened.
if not SETTINGS then return { 'NOTOPIC' } end
fire_all()
drop_oldest(TIMERS_MAX)
if RANG then ring() end
local length, delayed = call('XLEN', STREAM), call('ZCARD', HIDDEN)
local groups = {}
for _, group in ipairs(all_groups()) do
  -- Of what is hidden, a part is in `hidden` and the rest is parked or not yet passed.
  local untouched = length - group.passed - call('ZCARD', group.ahead)
  local ready = call('ZCARD', group.ready) + call('ZCARD', group.parked) + untouched
    + call('ZCARD', group.hidden) - delayed
  groups[#groups + 1] = {
    group.name, ready, call('ZCARD', group.leases), call('ZCARD', group.waiting) + delayed,
    call('LLEN', group.dead),
  }
end
local values = call('HMGET', META, 'visibility', 'max_attempts', 'retention', 'max_length')
return { 'OK', table.concat(values, ' '), length, groups }
