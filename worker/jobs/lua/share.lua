-- Lets a client begin a piece of work unless it has too many in flight. Work whose id is that of an unfinished job or of a
-- sweep that has not ended is in flight; other work is until it is left, or its time is over. A job that had finished
-- when its work began is about to be requeued.
-- ARGV: '<kind>:<client>', the most in flight, id of the work, milliseconds for which it counts without a job or a sweep
-- Returns 1 if the work may begin, else 0.
local client, most, id, lifetime = unpack(ARGV, 1, 4)
local key, t = P .. 'client:' .. client, now()

local function is_over(id, ends)
  local status, finished = unpack(redis.call('HMGET', P .. 'job:' .. id, 'status', 'finished_at'))
  if status and not FINISHED[status] or redis.call('SISMEMBER', P .. 'sweeps:open', id) == 1 then return false end
  return ends <= t or status and tonumber(finished or '0') >= ends - lifetime
end

local function in_flight()
  return redis.call('ZCARD', key) - (redis.call('ZSCORE', key, id) and 1 or 0)
end

if in_flight() >= tonumber(most) then
  local entries = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #entries, 2 do
    if is_over(entries[i], tonumber(entries[i + 1])) then redis.call('ZREM', key, entries[i]) end
  end
end
if in_flight() >= tonumber(most) then return 0 end
redis.call('ZADD', key, t + lifetime, id)
redis.call('EXPIRE', key, 86400)
return 1
