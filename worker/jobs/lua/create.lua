-- Makes the record of a new job, unless its idempotency key or its id is known.
-- ARGV: id, kind, creation time, idempotency key or '', digest of the request, fields...
-- Returns {'created', id}, {'exists', id}, or {'replayed', '<id> <digest of the first request>'}.
local id, kind, created, key, digest = unpack(ARGV, 1, 5)
local first_field = 6
if key ~= '' then
  local known = redis.call('HGET', P .. 'idempotency', key)
  if known then return {'replayed', known} end
end
if redis.call('EXISTS', P .. 'job:' .. id) == 1 then return {'exists', id} end
local t = now()
redis.call('DEL', P .. 'deleted:' .. id)
redis.call('HSET', P .. 'job:' .. id, 'id', id, 'kind', kind, 'status', 'queued', 'version', 0, 'fence', 0,
  'attempts', 0, 'losses', 0, 'created_at', created, 'updated_at', text(t))
set_fields(id, first_field)
if key ~= '' then redis.call('HSET', P .. 'idempotency', key, id .. ' ' .. digest) end
redis.call('ZADD', P .. 'kind:' .. kind, created, id)
index(id, nil, 'queued', t)
emit(id, 'queued', '{}', 'queued', t)
return {'created', id}
