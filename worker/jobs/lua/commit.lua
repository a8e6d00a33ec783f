-- Renews the lease of a claim and, in the same step, records what its holder reports.
-- ARGV: id, fence, lease in ms, event type or '', event data, step or '', fields...
-- Returns the job's state, 'finishing' for a running job that was asked to finish, or nothing if the claim is stale.
local id, fence, lease, event_type, data, step = unpack(ARGV, 1, 6)
local first_field = 7
local job = P .. 'job:' .. id
local status = holds(id, fence)
if not status then return false end
local t = now()
redis.call('ZADD', P .. 'leases', t + tonumber(lease), id)
set_fields(id, first_field)
if step ~= '' then
  -- Progress: the workers that died before it no longer count.
  local furthest = tonumber(redis.call('HGET', job, 'furthest_step') or '-1')
  if tonumber(step) > furthest then redis.call('HSET', job, 'furthest_step', step, 'losses', 0) end
end
if event_type ~= '' then
  redis.call('HSET', job, 'updated_at', text(t))
  emit(id, event_type, data, status, t)
end
if status == 'running' and redis.call('HEXISTS', job, 'finish') == 1 then return 'finishing' end
return status
