-- Notes that the storage has a job's last transition.
-- ARGV: id, version of the record that was stored.
-- Returns 1, or 0 if the record has changed since.
local id, stored = unpack(ARGV, 1, 2)
local version = redis.call('HGET', P .. 'job:' .. id, 'version')
if version and version ~= stored then return 0 end
redis.call('SREM', P .. 'unstored', id)
return 1
