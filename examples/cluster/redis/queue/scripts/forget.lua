-- Forgets an instance with all that is in it.
local function forget()
  for _, group in ipairs(all_groups()) do
    call('UNLINK', group.m, group.x, group.leases, group.waiting, group.ready, group.ahead,
      group.hidden, group.parked, group.busy, group.own, group.dead)
  end
  call('UNLINK', META, STREAM, GROUPS, HIDDEN, SETTLED, FOREIGN, DEDUPE, DEDUPE_ENDS,
    FENCES, FENCES_USED, OUT,
    OUT .. '-order')
  if HOME ~= '' then call('SREM', KEYS[2] .. ':handoffs', HOME .. ' ' .. TOPIC) end
end
