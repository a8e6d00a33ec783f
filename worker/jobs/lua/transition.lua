-- Moves a job to another state if its state, and its fence where one is given, allow it.
-- ARGV: id, states that it may come from (separated by spaces), new state, fence or '', event data, fields...
-- Returns {'ok', old state}, {'refused', state}, {'stale', state or ''}, or {'unknown', ''}.
local id, sources, to, fence, data = unpack(ARGV, 1, 5)
local first_field = 6
local status = redis.call('HGET', P .. 'job:' .. id, 'status')
if fence ~= '' and not holds(id, fence) then return {'stale', status or ''} end
if not status then return {'unknown', ''} end
if not string.find(' ' .. sources .. ' ', ' ' .. status .. ' ', 1, true) then return {'refused', status} end
set_fields(id, first_field)
move(id, status, to, data, now())
return {'ok', status}
