-- One claim of this host on one JID, new or refreshed.
-- KEYS: the JID itself, its claims, its deadlines, and for a bare JID its home.
-- ARGV: this host, since (ms), expire_after (s), '1' if the claim is fresh, lifetime of a home (s;
-- 0: without end).
local host, since, lifetime, fresh = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'

-- How long those live who are in there already (s). Rounded up: nobody's claim
-- may end before its time.
local left = math.ceil(redis.call('PTTL', KEYS[2]) / 1000)
redis.call('HSET', KEYS[2], host, since)
redis.call('EXPIRE', KEYS[2], lifetime)

-- The hash lives as long as anybody refreshes it, and its fields with it. As
-- soon as several hosts are in it, each field gets a deadline of its own. A
-- host that was alone until now had that of the hash.
if redis.call('HLEN', KEYS[2]) == 1 then
    redis.call('DEL', KEYS[3])
else
    local now = tonumber(redis.call('TIME')[1])
    for _, other in ipairs(redis.call('HKEYS', KEYS[2])) do
        local deadline = tonumber(redis.call('HGET', KEYS[3], other))
        if other == host then
            redis.call('HSET', KEYS[3], other, now + lifetime)
        elseif not deadline then
            redis.call('HSET', KEYS[3], other, now + math.max(left, 0))
        elseif deadline < now then
            redis.call('HDEL', KEYS[2], other)
            redis.call('HDEL', KEYS[3], other)
        end
    end
    redis.call('EXPIRE', KEYS[3], lifetime)
end

local owner = redis.call('GET', KEYS[1])
local ours = not owner or owner == host
if not ours then
    -- An owner that is not in the hash is a MongooseIM.
    local theirs = tonumber(redis.call('HGET', KEYS[2], owner))
    if theirs then
        -- A time more than a minute ahead is none, as in every reader.
        ours = theirs < tonumber(since)
            or theirs / 1000 > tonumber(redis.call('TIME')[1]) + 60
    else
        ours = fresh
    end
end
if ours then
    redis.call('SET', KEYS[1], host, 'EX', lifetime)
    if KEYS[4] then
        if ARGV[5] == '0' then
            redis.call('SET', KEYS[4], host)
        else
            redis.call('SET', KEYS[4], host, 'EX', ARGV[5])
        end
    end
end
return redis.status_reply('OK')
