-- Gives a queued job to a worker.
-- ARGV: id, worker, lease in ms.
-- Returns the fence of the claim, or nothing if the job is not queued.
local id, worker, lease = unpack(ARGV, 1, 3)
local job = P .. 'job:' .. id
if redis.call('HGET', job, 'status') ~= 'queued' then return false end
local t = now()
local fence = redis.call('HINCRBY', job, 'fence', 1)
local attempt = redis.call('HINCRBY', job, 'attempts', 1)
redis.call('HSET', job, 'worker', worker)
redis.call('HDEL', job, 'stepped')
redis.call('HSETNX', job, 'started_at', text(t))
move(id, 'queued', 'running', cjson.encode({attempt = attempt, worker = worker}), t)
redis.call('ZADD', P .. 'leases', t + tonumber(lease), id)
return fence
