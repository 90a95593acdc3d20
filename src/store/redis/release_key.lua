-- Deletes a key that is this host's.
-- KEYS: a service domain, or a JID with braces. ARGV: this host.
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1])
end
return redis.status_reply('OK')
