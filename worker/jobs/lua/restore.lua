-- Puts a record back from the storage, unless Redis has one that is as new or the job was deleted.
-- ARGV: id, kind, creation time, status, version, lease in ms, idempotency key or '', its entry, fields...
-- Returns 1 if the record was restored, else 0.
local id, kind, created, status, version, lease, key, entry = unpack(ARGV, 1, 8)
local first_field = 9
local job = P .. 'job:' .. id
if redis.call('EXISTS', P .. 'deleted:' .. id) == 1 then return 0 end
local known_version, known_status = unpack(redis.call('HMGET', job, 'version', 'status'))
if known_version and tonumber(known_version) >= tonumber(version) then return 0 end
local t = now()
redis.call('DEL', job)
set_fields(id, first_field)
redis.call('HSET', job, 'id', id, 'kind', kind, 'status', status, 'version', version, 'created_at', created,
  'losses', 0)
redis.call('HSETNX', job, 'updated_at', text(t))
if key ~= '' then redis.call('HSETNX', P .. 'idempotency', key, entry) end
redis.call('ZADD', P .. 'kind:' .. kind, created, id)
index(id, known_status, status, t)
if HELD[status] then redis.call('ZADD', P .. 'leases', t + tonumber(lease), id) end
if FINISHED[status] then announce(id, t) end
emit(id, status, '{"restored": true}', status, t)
return 1
