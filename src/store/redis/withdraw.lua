-- Takes this host's claim on one JID away.
-- KEYS: the JID itself, its claims, its deadlines. ARGV: this host.
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return redis.status_reply('OK')
end

local newest, since
local latest = (tonumber(redis.call('TIME')[1]) + 60) * 1000
local claims = redis.call('HGETALL', KEYS[2])
for i = 1, #claims, 2 do
    local its = tonumber(claims[i + 1]) or 0
    if its > latest then
        its = 0
    end
    if not since or its > since then
        newest, since = claims[i], its
    end
end
local remaining = redis.call('PTTL', KEYS[2])
if newest and remaining > 0 then
    redis.call('SET', KEYS[1], newest, 'PX', remaining)
else
    redis.call('DEL', KEYS[1])
end
return redis.status_reply('OK')
