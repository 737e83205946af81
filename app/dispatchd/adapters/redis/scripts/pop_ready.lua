-- Takes the best ready executions for several demands at once.
--
-- KEYS[1]        the marker that holds the epoch for which the queues are complete
-- ARGV[1]        the epoch of the caller
-- ARGV[2]        prefix of the queue keys
-- ARGV[3]        how many to take at most, in all
-- ARGV[4…]       for each demand: slots, number of capabilities, the capabilities
--
-- Returns false if the queues are not complete for this epoch, else for each demand a flat list of
-- capability, score, member. A queue is a sorted set with score -priority and a member that begins
-- with the due time, so its first entry is its best one; the best of several heads is the one with
-- the lowest (score, member).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return false
end

local function head(capability)
  local entry = redis.call('ZRANGE', ARGV[2] .. capability, 0, 0, 'WITHSCORES')
  if entry[1] == nil then
    return nil
  end
  return { capability, tonumber(entry[2]), entry[1] }
end

local function is_before(a, b)
  return b == nil or a[2] < b[2] or (a[2] == b[2] and a[3] < b[3])
end

local function pop_from_one(capability, slots)
  local popped = redis.call('ZPOPMIN', ARGV[2] .. capability, slots)
  local taken = {}
  for i = 1, #popped, 2 do
    taken[#taken + 1] = capability
    taken[#taken + 1] = popped[i + 1]
    taken[#taken + 1] = popped[i]
  end
  return taken
end

local function pop_from_many(capabilities, slots)
  local heads, taken = {}, {}
  for i, capability in ipairs(capabilities) do
    heads[i] = head(capability) or false
  end
  while slots > 0 do
    local best = nil
    for i, candidate in ipairs(heads) do
      if candidate and is_before(candidate, best and heads[best]) then
        best = i
      end
    end
    if best == nil then
      break
    end
    local entry = heads[best]
    redis.call('ZREM', ARGV[2] .. entry[1], entry[3])
    taken[#taken + 1] = entry[1]
    taken[#taken + 1] = tostring(entry[2])
    taken[#taken + 1] = entry[3]
    heads[best] = head(entry[1]) or false
    slots = slots - 1
  end
  return taken
end

local answers = {}
local room = tonumber(ARGV[3])
local at = 4
while at <= #ARGV do
  local slots, count = math.min(room, tonumber(ARGV[at])), tonumber(ARGV[at + 1])
  local capabilities = {}
  for i = 1, count do
    capabilities[i] = ARGV[at + 1 + i]
  end
  at = at + 2 + count
  local taken
  if count == 1 then
    taken = pop_from_one(capabilities[1], slots)
  else
    taken = pop_from_many(capabilities, slots)
  end
  room = room - #taken / 3
  answers[#answers + 1] = taken
end
return answers
