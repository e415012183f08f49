"""The one script by which nodes count requests in Redis: exact over all of them, by the clock of the server alone.

For each project there is a list of the times of its last N admissions, in microseconds of the server's clock, rising.
Those within the second before now count. A script runs alone, so what it counts is what it changes.

    KEYS   nodes, then a list for each project that is asked for
    ARGV   N, the name of the node that asks (empty: do not note it), then for each project
             how many admissions are asked for
             how many are taken back, and the time of each
    reply  how many nodes asked within `NODES_S` (0: not noted), then for each project
             how many counted before
             how many of those asked for are admitted
             the time at which these count
             microseconds until the next place is free

A time ahead of the server's is that of an admission before its clock was set back: what follows counts as of then. One
from more than a second ahead is of another clock, as after a failover, and the list is emptied.
"""

SECOND_US = 1_000_000
# So long a node that says nothing counts as one of those that share a limit.
NODES_S = 5
# A list that nobody adds to is gone after this; onlookers see the last seconds of it.
KEPT_S = 5
FIELDS = 4
"""Numbers in the reply for each project."""

SCRIPT = f"""
local time = redis.call('TIME')
local clock = time[1] * {SECOND_US} + time[2]
local limit = tonumber(ARGV[1])
local reply = {{0}}
if ARGV[2] ~= '' then
  redis.call('ZADD', KEYS[1], clock, ARGV[2])
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', clock - {NODES_S * SECOND_US})
  redis.call('PEXPIRE', KEYS[1], {NODES_S * 1000})
  reply[1] = redis.call('ZCARD', KEYS[1])
end
local argument = 3
for place = 2, #KEYS do
  local key, asked, gone = KEYS[place], tonumber(ARGV[argument]), tonumber(ARGV[argument + 1])
  for each = argument + 2, argument + 1 + gone do
    redis.call('LREM', key, -1, ARGV[each])
  end
  argument = argument + 2 + gone
  local now = clock
  local last = tonumber(redis.call('LINDEX', key, -1) or 0)
  if last > clock + {SECOND_US} then
    redis.call('DEL', key)
  elseif last > clock then
    now = last
  end
  local length = redis.call('LLEN', key)
  local first, beyond = 0, length
  while first < beyond do
    local middle = math.floor((first + beyond) / 2)
    if tonumber(redis.call('LINDEX', key, middle)) > now - {SECOND_US} then
      beyond = middle
    else
      first = middle + 1
    end
  end
  local used = length - first
  local taken = math.max(math.min(asked, limit - used), 0)
  if taken > 0 then
    local written = string.format('%.0f', now)
    for _ = 1, taken do
      redis.call('RPUSH', key, written)
    end
    redis.call('LTRIM', key, -limit, -1)
    redis.call('PEXPIRE', key, {KEPT_S * 1000})
  end
  local free = 0
  if used + taken >= limit then
    free = tonumber(redis.call('LINDEX', key, -limit)) + {SECOND_US} - now
  end
  reply[#reply + 1] = used
  reply[#reply + 1] = taken
  reply[#reply + 1] = now
  reply[#reply + 1] = free
end
return reply
"""
