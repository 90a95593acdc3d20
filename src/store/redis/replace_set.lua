-- Makes a set hold exactly these members, without a moment in which it holds fewer.
-- KEYS: the set. ARGV: expire_after (s), then the members.
redis.call('DEL', KEYS[1])
for i = 2, #ARGV do
    redis.call('SADD', KEYS[1], ARGV[i])
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return redis.status_reply('OK')
