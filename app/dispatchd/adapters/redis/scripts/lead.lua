-- Takes or keeps the leader lock: KEYS[1] lock, ARGV[1] owner, ARGV[2] lifetime in ms. Returns 1 if we lead.
local owner = redis.call('GET', KEYS[1])
if owner == false then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1
end
if owner == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
return 0
