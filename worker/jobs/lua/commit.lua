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
  -- The workers that died before count no longer if the job is further than ever, or if a checkpoint is.
  local mark = event_type == 'checkpoint' and 'saved_step' or 'furthest_step'
  local furthest = tonumber(redis.call('HGET', job, mark) or '-1')
  if tonumber(step) > furthest then redis.call('HSET', job, mark, step, 'losses', 0, 'stalls', 0) end
  local kind, first = unpack(redis.call('HMGET', job, 'kind', 'resumed_from_step'))
  if kind == 'train' and tonumber(step) > tonumber(first or '0') then redis.call('HSET', job, 'stepped', 1) end
end
if event_type ~= '' then
  redis.call('HSET', job, 'updated_at', text(t))
  emit(id, event_type, data, status, t)
end
if status == 'running' and redis.call('HEXISTS', job, 'finish') == 1 then return 'finishing' end
return status
