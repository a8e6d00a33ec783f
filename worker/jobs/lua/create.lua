-- Makes the record of a new job, unless its idempotency key or its id is known, or something that it needs is deleted.
-- ARGV: id, kind, creation time, idempotency key or '', digest of the request, time at which the request began or '',
-- what the job needs ('<kind>:<id>', with spaces between), fields...
-- Returns {'created', id}, {'exists', id}, {'replayed', '<id> <digest of the first request>'}, or {'deleting', need} or
-- {'deleted', need} for something that is being deleted, or was since the request began.
local id, kind, created, key, digest, since, needs = unpack(ARGV, 1, 7)
local first_field = 8
if key ~= '' then
  local known = redis.call('HGET', P .. 'idempotency', key)
  if known then return {'replayed', known} end
end
if redis.call('EXISTS', P .. 'job:' .. id) == 1 then return {'exists', id} end
if since ~= '' then
  for need in string.gmatch(needs, '%S+') do
    if redis.call('EXISTS', P .. 'deleting:' .. need) == 1 then return {'deleting', need} end
    local gone = redis.call('GET', P .. 'gone:' .. need)
    if gone and tonumber(gone) >= tonumber(since) then return {'deleted', need} end
  end
end
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
