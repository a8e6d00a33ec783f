-- Takes jobs from the workers whose lease ran out.
-- ARGV: numbers of lost workers in a row that fail a job: of those without a step, and of all without progress.
-- Returns {id, old state, new state} of each job.
local max_losses, max_stalls = tonumber(ARGV[1]), tonumber(ARGV[2])
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
    local stepped = redis.call('HEXISTS', job, 'stepped') == 1
    local stalls = redis.call('HINCRBY', job, 'stalls', 1)
    local losses = stepped and 0 or redis.call('HINCRBY', job, 'losses', 1)
    if stepped then redis.call('HSET', job, 'losses', 0) end
    if to == 'queued' and (losses >= max_losses or stalls >= max_stalls) then
      to = 'failed'
      redis.call('HSET', job, 'losses', 0, 'stalls', 0, 'error', cjson.encode({code = 'worker_lost',
        message = math.max(losses, stalls) .. ' workers in a row died on this job without progress.'}))
    end
    move(id, status, to, '{"reason": "worker lost"}', t)
    moved[#moved + 1] = {id, status, to}
  end
end
return moved
