"""The Lua scripts that change job records: each is one atomic step, by the clock of the Redis server.

Keys: `betavae:job:<id>` a hash, the record · `betavae:events:<id>` a stream, the job's log ·
`betavae:kind:<kind>` and `betavae:status:<status>` sorted sets of ids · `betavae:leases` ids by the end of their
lease · `betavae:unstored` ids whose state the storage does not have yet · `betavae:idempotency` keys to ids ·
`betavae:deleted:<id>` marks that keep a deleted job from being restored out of files that are still going.
"""

PREFIX = "betavae:"

_COMMON = """
local P = 'betavae:'
local KEPT_EVENTS = 5000
local HELD = {running = true, pausing = true, cancelling = true}
local FINISHED = {succeeded = true, failed = true, cancelled = true}

local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function emit(id, type, data, status, t)
  redis.call('XADD', P .. 'events:' .. id, 'MAXLEN', '~', KEPT_EVENTS, '*',
    'type', type, 'data', data, 'status', status, 'at', string.format('%d', t))
end

local function index(id, from, to, t)
  if from then redis.call('ZREM', P .. 'status:' .. from, id) end
  redis.call('ZADD', P .. 'status:' .. to, t, id)
  if not HELD[to] then redis.call('ZREM', P .. 'leases', id) end
end

local function move(id, from, to, data, t)
  local job = P .. 'job:' .. id
  redis.call('HSET', job, 'status', to, 'updated_at', string.format('%d', t))
  redis.call('HINCRBY', job, 'version', 1)
  if FINISHED[to] then redis.call('HSET', job, 'finished_at', string.format('%d', t)) end
  if to == 'queued' then redis.call('HDEL', job, 'finished_at', 'error', 'result', 'worker') end
  redis.call('SADD', P .. 'unstored', id)
  index(id, from, to, t)
  emit(id, to, data, to, t)
end

local function set_fields(id, first)
  if #ARGV >= first then redis.call('HSET', P .. 'job:' .. id, unpack(ARGV, first)) end
end

local function holds(id, fence)
  local job = redis.call('HMGET', P .. 'job:' .. id, 'status', 'fence')
  return job[1] and HELD[job[1]] and job[2] == fence and job[1] or false
end
"""

CREATE = (
    _COMMON
    + """
-- ARGV: id, kind, created ms, idempotency key or '', digest of the request, fields...
local id, kind, created, key = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if key ~= '' then
  local known = redis.call('HGET', P .. 'idempotency', key)
  if known then return {'replayed', known} end
end
if redis.call('EXISTS', P .. 'job:' .. id) == 1 then return {'exists', id} end
local t = now()
redis.call('DEL', P .. 'deleted:' .. id)
redis.call('HSET', P .. 'job:' .. id, 'id', id, 'kind', kind, 'status', 'queued', 'version', 0, 'fence', 0,
  'attempts', 0, 'losses', 0, 'created_at', created, 'updated_at', string.format('%d', t))
set_fields(id, 6)
if key ~= '' then redis.call('HSET', P .. 'idempotency', key, id .. ' ' .. ARGV[5]) end
redis.call('ZADD', P .. 'kind:' .. kind, created, id)
index(id, nil, 'queued', t)
emit(id, 'queued', '{}', 'queued', t)
return {'created', id}
"""
)

RESTORE = (
    _COMMON
    + """
-- Puts a record back from the storage, unless Redis knows one that is as new.
-- ARGV: id, kind, created ms, status, version, lease ms, idempotency entry name or '', its value, fields...
local id, kind, status, version = ARGV[1], ARGV[2], ARGV[4], tonumber(ARGV[5])
local job = P .. 'job:' .. id
if redis.call('EXISTS', P .. 'deleted:' .. id) == 1 then return 0 end
local known = redis.call('HMGET', job, 'version', 'status')
if known[1] and tonumber(known[1]) >= version then return 0 end
local t = now()
redis.call('DEL', job)
set_fields(id, 9)
redis.call('HSET', job, 'id', id, 'kind', kind, 'status', status, 'version', version, 'created_at', ARGV[3],
  'losses', 0)
redis.call('HSETNX', job, 'updated_at', string.format('%d', t))
if ARGV[7] ~= '' then redis.call('HSETNX', P .. 'idempotency', ARGV[7], ARGV[8]) end
redis.call('ZADD', P .. 'kind:' .. kind, ARGV[3], id)
index(id, known[2], status, t)
if HELD[status] then redis.call('ZADD', P .. 'leases', t + tonumber(ARGV[6]), id) end
emit(id, status, '{"restored": true}', status, t)
return 1
"""
)

TRANSITION = (
    _COMMON
    + """
-- ARGV: id, states it may come from (space separated), new state, fence or '', event data, fields...
local id, to, fence = ARGV[1], ARGV[3], ARGV[4]
local status = redis.call('HGET', P .. 'job:' .. id, 'status')
if fence ~= '' and not holds(id, fence) then return {'stale', status or ''} end
if not status then return {'unknown', ''} end
if not string.find(' ' .. ARGV[2] .. ' ', ' ' .. status .. ' ', 1, true) then return {'refused', status} end
set_fields(id, 6)
move(id, status, to, ARGV[5], now())
return {'ok', status}
"""
)

CLAIM = (
    _COMMON
    + """
-- ARGV: id, worker, lease ms.  Returns the fence, or nothing when the job does not wait.
local id = ARGV[1]
local job = P .. 'job:' .. id
if redis.call('HGET', job, 'status') ~= 'queued' then return false end
local t = now()
local fence = redis.call('HINCRBY', job, 'fence', 1)
local attempt = redis.call('HINCRBY', job, 'attempts', 1)
redis.call('HSET', job, 'worker', ARGV[2])
redis.call('HSETNX', job, 'started_at', string.format('%d', t))
move(id, 'queued', 'running', cjson.encode({attempt = attempt, worker = ARGV[2]}), t)
redis.call('ZADD', P .. 'leases', t + tonumber(ARGV[3]), id)
return fence
"""
)

COMMIT = (
    _COMMON
    + """
-- Renews the lease and, in the same step, records what the holder reports.
-- ARGV: id, fence, lease ms, event type or '', event data, step or '', fields...  Returns the status, or nothing.
local id, fence = ARGV[1], ARGV[2]
local job = P .. 'job:' .. id
local status = holds(id, fence)
if not status then return false end
local t = now()
redis.call('ZADD', P .. 'leases', t + tonumber(ARGV[3]), id)
set_fields(id, 7)
if ARGV[6] ~= '' then
  local reached = tonumber(redis.call('HGET', job, 'furthest_step') or '-1')
  if tonumber(ARGV[6]) > reached then redis.call('HSET', job, 'furthest_step', ARGV[6], 'losses', 0) end
end
if ARGV[4] ~= '' then
  redis.call('HSET', job, 'updated_at', string.format('%d', t))
  emit(id, ARGV[4], ARGV[5], status, t)
end
return status
"""
)

EXPIRE = (
    _COMMON
    + """
-- Takes jobs from holders that gave no sign of life.  ARGV: losses in a row that fail a job.
-- Returns id, old state, new state for each.
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
    if to == 'queued' and losses >= tonumber(ARGV[1]) then
      to = 'failed'
      redis.call('HSET', job, 'losses', 0, 'error', cjson.encode({code = 'worker_lost',
        message = losses .. ' workers in a row died on this job without progress.'}))
    end
    move(id, status, to, '{"reason": "worker lost"}', t)
    moved[#moved + 1] = {id, status, to}
  end
end
return moved
"""
)

DELETE = (
    _COMMON
    + """
-- ARGV: id.  Forgets a finished job; a mark keeps it from being restored while its files go.
local id = ARGV[1]
local job = P .. 'job:' .. id
local known = redis.call('HMGET', job, 'status', 'kind', 'idempotency_key')
if not known[1] then return {'unknown', ''} end
if not FINISHED[known[1]] then return {'refused', known[1]} end
redis.call('SET', P .. 'deleted:' .. id, 1, 'EX', 3600)
redis.call('ZREM', P .. 'status:' .. known[1], id)
redis.call('ZREM', P .. 'kind:' .. known[2], id)
redis.call('ZREM', P .. 'leases', id)
redis.call('SREM', P .. 'unstored', id)
if known[3] then redis.call('HDEL', P .. 'idempotency', known[3]) end
redis.call('DEL', job, P .. 'events:' .. id)
return {'ok', known[1]}
"""
)

STORED = (
    _COMMON
    + """
-- ARGV: id, version that the storage now has.
local version = redis.call('HGET', P .. 'job:' .. ARGV[1], 'version')
if version and version ~= ARGV[2] then return 0 end
redis.call('SREM', P .. 'unstored', ARGV[1])
return 1
"""
)
