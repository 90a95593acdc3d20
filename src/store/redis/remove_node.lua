-- Takes a node out unless it has announced itself again meanwhile.
-- KEYS: its host's nodes. ARGV: the node, the stamp by which it was found dead.
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
    redis.call('HDEL', KEYS[1], ARGV[1])
end
return redis.status_reply('OK')
