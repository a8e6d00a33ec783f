-- Requests that a training that has begun cools down from where it is and ends as a completed one.
-- ARGV: id.
-- Returns {'ok', old state}, {'refused', state}, or {'unknown', ''}.
local id = ARGV[1]
local job = P .. 'job:' .. id
local status, started = unpack(redis.call('HMGET', job, 'status', 'started_at'))
local REQUEUED = {paused = true, failed = true, cancelled = true}
if not status then return {'unknown', ''} end
if not started or not (REQUEUED[status] or status == 'running' or status == 'queued') then return {'refused', status} end
local t = now()
redis.call('HSET', job, 'finish', 1)
if REQUEUED[status] then
  redis.call('HSET', job, 'losses', 0, 'stalls', 0)
  move(id, status, 'queued', '{"finishing": true}', t)
else
  redis.call('HINCRBY', job, 'version', 1)
  redis.call('SADD', P .. 'unstored', id)
  emit(id, 'finishing', '{}', status, t)
end
return {'ok', status}
