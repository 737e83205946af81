-- Adds entries to ready queues and wakes the gateways, in one round trip.
--
-- ARGV[1]     prefix of the queue keys
-- ARGV[2]     channel to say on which capabilities have something new; empty: nobody is woken
-- ARGV[3]     what to say there
-- ARGV[4…]    for each queue: capability, number of entries, then a score and a member for each
local at = 4
while at <= #ARGV do
  local queue = ARGV[1] .. ARGV[at]
  local last = at + 1 + 2 * tonumber(ARGV[at + 1])
  for i = at + 2, last, 2 do
    redis.call('ZADD', queue, ARGV[i], ARGV[i + 1])
  end
  at = last + 1
end
if ARGV[2] ~= '' then
  redis.call('PUBLISH', ARGV[2], ARGV[3])
end
