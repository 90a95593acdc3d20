-- Makes a service domain this host's, or refreshes it, unless it is another's.
-- KEYS: the domain. ARGV: this host, expire_after (s).
local owner = redis.call('GET', KEYS[1])
if not owner or owner == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
return redis.status_reply('OK')
