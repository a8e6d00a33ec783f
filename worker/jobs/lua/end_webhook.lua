-- Notes that the message of a job needs no further attempt.
-- ARGV: id, version of the record that the message told of, or ''.
-- Returns 1 if the record was changed, else 0.
local id, version = unpack(ARGV, 1, 2)
local job = P .. 'job:' .. id
local present = redis.call('HGET', job, 'version')
if version ~= '' and present and present ~= version then return 0 end
redis.call('ZREM', P .. 'webhooks', id)
redis.call('HDEL', P .. 'webhook_attempts', id)
if version == '' or not present then return 0 end
redis.call('HSET', job, 'announced', version)
redis.call('SADD', P .. 'unstored', id)
return 1
