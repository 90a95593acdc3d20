-- Makes a key this host's, or refreshes it, unless it is another's and the claim is not fresh.
-- KEYS: a service domain, or a JID with braces. ARGV: this host, expire_after (s), '1' if fresh.
local owner = redis.call('GET', KEYS[1])
if not owner or owner == ARGV[1] or ARGV[3] == '1' then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
return redis.status_reply('OK')
