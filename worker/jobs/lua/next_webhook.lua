-- Takes the message that is due first, and moves it to the time of its next attempt.
-- ARGV: delay after the first attempt in seconds, its factor from attempt to attempt, longest delay in seconds.
-- Returns {id of the job, number of the attempt}, or nothing if none is due.
local first, factor, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local t = now()
local due = redis.call('ZRANGEBYSCORE', P .. 'webhooks', '-inf', t, 'LIMIT', 0, 1)
if not due[1] then return false end
local attempt = redis.call('HINCRBY', P .. 'webhook_attempts', due[1], 1)
local delay = math.min(first * factor ^ (attempt - 1), longest)
redis.call('ZADD', P .. 'webhooks', t + math.floor(delay * 1000), due[1])
return {due[1], attempt}
