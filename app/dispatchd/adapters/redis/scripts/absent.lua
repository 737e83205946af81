-- Finds which members a queue lacks.
--
-- KEYS[1]   the queue
-- ARGV[1]   the length of a member in bytes
-- ARGV[2]   the members, one behind the other: a thousand arguments would cost their sender ten times as much
--
-- Returns the places of those that are not there, from 0.
local length, members = tonumber(ARGV[1]), ARGV[2]
local absent = {}
for at = 1, #members, length do
  if not redis.call('ZSCORE', KEYS[1], string.sub(members, at, at + length - 1)) then
    absent[#absent + 1] = (at - 1) / length
  end
end
return absent
