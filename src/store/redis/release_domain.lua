-- Gives a service domain up that is this host's.
-- KEYS: the domain. ARGV: this host.
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1])
end
return redis.status_reply('OK')
