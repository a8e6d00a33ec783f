-- Removes the record of a finished job, and marks it as deleted while its files are removed.
-- ARGV: id.
-- Returns {'ok', state}, {'refused', state}, or {'unknown', ''}.
local id = ARGV[1]
local job = P .. 'job:' .. id
local status, kind, key = unpack(redis.call('HMGET', job, 'status', 'kind', 'idempotency_key'))
if not status then return {'unknown', ''} end
if not FINISHED[status] then return {'refused', status} end
redis.call('SET', P .. 'deleted:' .. id, 1, 'EX', 3600)
redis.call('ZREM', P .. 'status:' .. status, id)
redis.call('ZREM', P .. 'kind:' .. kind, id)
redis.call('ZREM', P .. 'leases', id)
redis.call('SREM', P .. 'unstored', id)
redis.call('ZREM', P .. 'webhooks', id)
redis.call('HDEL', P .. 'webhook_attempts', id)
if key then
  redis.call('HDEL', P .. 'idempotency', key)
  redis.call('HINCRBY', P .. 'generations', key, 1)
end
redis.call('DEL', job, P .. 'events:' .. id, P .. 'reports:' .. id)
return {'ok', status}
