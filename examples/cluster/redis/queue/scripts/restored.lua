-- The node has what it can have again.
call('HDEL', NODE, 'restoring')
return { 'OK' }
