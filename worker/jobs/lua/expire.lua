-- Takes jobs from the workers whose lease ran out.
-- ARGV: number of lost workers in a row that fails a job.
-- Returns {id, old state, new state} of each job.
local max_losses = tonumber(ARGV[1])
local t = now()
local moved = {}
local next_state = {running = 'queued', pausing = 'paused', cancelling = 'cancelled'}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', t, 'LIMIT', 0, 100)) do
  local job = P .. 'job:' .. id
  local status = redis.call('HGET', job, 'status')
  if not status or not HELD[status] then
    redis.call('ZREM', P .. 'leases', id)
  else
    local to = next_state[status]
    local losses = redis.call('HINCRBY', job, 'losses', 1)
    if to == 'queued' and losses >= max_losses then
      to = 'failed'
      redis.call('HSET', job, 'losses', 0, 'error', cjson.encode({code = 'worker_lost',
        message = losses .. ' workers in a row died on this job without progress.'}))
    end
    move(id, status, to, '{"reason": "worker lost"}', t)
    moved[#moved + 1] = {id, status, to}
  end
end
return moved
