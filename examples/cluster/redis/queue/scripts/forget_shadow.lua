-- Nothing of this shadow is needed any more; what was added meanwhile is.
if call('ZCARD', ORDER) == 0 then forget_shadow() end
return { 'OK' }
