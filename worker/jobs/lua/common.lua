-- What every script of the job store begins with. Each script runs as one atomic step, by the clock of the Redis server.
--
-- The loader (worker/jobs/scripts.py) puts `local P = '<prefix>'` in front of this file. Keys, each after that prefix:
--   job:<id>         hash: the record of a job
--   events:<id>      stream: the job's log of events
--   reports:<id>     list: the events of a job's log that may be thinned, oldest first
--   kind:<kind>      sorted set: ids of the jobs of a kind, by their creation time
--   status:<status>  sorted set: ids of the jobs in a state, by the time of their last transition
--   leases           sorted set: ids of the held jobs, by the time at which their lease ends
--   unstored         set: ids of the jobs whose last transition the storage does not have yet
--   idempotency      hash: idempotency key -> '<id> <digest of the request>'
--   generations      hash: idempotency key -> number of its jobs that were deleted
--   client:<kind>:<client>  sorted set: ids of the work that a client has in flight, by the time until which it counts
--                    without a job or a sweep
--   sweeps:open      set: ids of the sweeps that have not ended (worker/sweeps/kept.py)
--   webhooks         sorted set: ids of the finished jobs and sweeps whose message is due or was not taken, by its next
--                    attempt
--   webhook_attempts hash: id -> number of attempts to send its message
--   deleted:<id>     string: keeps a deleted job from being restored while its files are removed
--   deleting:<need>  string: a data set, a model or a run ('<kind>:<id>') is being deleted (worker/jobs/deletions.py)
--   gone:<need>      string: the time at which it was deleted
--
-- Times are milliseconds since 1970. `fields...` are the remaining arguments: names and values of record fields, in turn.

-- A job's record counts the workers that died on it in a row: `losses` (without a step) and `stalls` (with steps, but
-- none further than before). `stepped` says that the present worker has made steps of a training.

-- Reports are thinned when a log has more of them: of the older half, every second one stays. States stay for ever.
local KEPT_REPORTS = 2000
local REPORTS = {progress = true, packing = true, evaluating = true, checkpoint = true}
local HELD = {running = true, pausing = true, cancelling = true}
local FINISHED = {succeeded = true, failed = true, cancelled = true}

local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Redis would convert a number of this size to a text with an exponent.
local function text(milliseconds)
  return string.format('%d', milliseconds)
end

-- Adds an event to the job's log.
local function emit(id, type, data, status, t)
  local log, reports = P .. 'events:' .. id, P .. 'reports:' .. id
  local entry = redis.call('XADD', log, '*', 'type', type, 'data', data, 'status', status, 'at', text(t))
  if not REPORTS[type] then return end
  if redis.call('RPUSH', reports, entry) <= KEPT_REPORTS then return end
  local older = redis.call('LRANGE', reports, 0, KEPT_REPORTS / 2 - 1)
  redis.call('LTRIM', reports, KEPT_REPORTS / 2, -1)
  for i = #older, 1, -1 do
    if i % 2 == 0 then
      redis.call('XDEL', log, older[i])
    else
      redis.call('LPUSH', reports, older[i])
    end
  end
end

-- Moves the id from one state's set to another's. A job that nobody holds has no lease.
local function index(id, from, to, t)
  if from then redis.call('ZREM', P .. 'status:' .. from, id) end
  redis.call('ZADD', P .. 'status:' .. to, t, id)
  if not HELD[to] then redis.call('ZREM', P .. 'leases', id) end
end

-- Lets the message of a finished job be sent, if it has an address and was not sent before.
local function announce(id, t)
  local wanted, announced, version = unpack(redis.call('HMGET', P .. 'job:' .. id, 'webhook', 'announced', 'version'))
  if wanted and announced ~= version then
    redis.call('ZADD', P .. 'webhooks', t, id)
    redis.call('HDEL', P .. 'webhook_attempts', id)
  end
end

-- Makes a transition: the record, the indexes and the event.
local function move(id, from, to, data, t)
  local job = P .. 'job:' .. id
  redis.call('HSET', job, 'status', to, 'updated_at', text(t))
  redis.call('HINCRBY', job, 'version', 1)
  if FINISHED[to] then redis.call('HSET', job, 'finished_at', text(t)) end
  if to == 'queued' then redis.call('HDEL', job, 'finished_at', 'error', 'result', 'worker') end
  redis.call('SADD', P .. 'unstored', id)
  index(id, from, to, t)
  emit(id, to, data, to, t)
  if FINISHED[to] then announce(id, t) end
end

-- Writes the fields that the arguments from the position `first` on name.
local function set_fields(id, first)
  if #ARGV >= first then redis.call('HSET', P .. 'job:' .. id, unpack(ARGV, first)) end
end

-- Returns the job's state if a worker holds it with this fence, else false.
local function holds(id, fence)
  local job = redis.call('HMGET', P .. 'job:' .. id, 'status', 'fence')
  return job[1] and HELD[job[1]] and job[2] == fence and job[1] or false
end
