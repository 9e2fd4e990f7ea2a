"""The one step in which Redis draws on all buckets of a request, or charges them.

The same arithmetic as ``core.admission.token_bucket``, by the server's own clock, so that routers
need not agree on the time. A bucket is a hash of its level and when that was; it expires when it
would be full, so what Redis keeps is bounded by what is in use.
"""

SCRIPT = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local charge = ARGV[1] == 'charge'
local levels, together = {}, true
for i = 1, #KEYS do
  local at = (i - 1) * 5 + 2
  local capacity, rate = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local amount, binding = tonumber(ARGV[at + 3]), ARGV[at + 4] == '1'
  local known = redis.call('HMGET', KEYS[i], 'level', 'at')
  local level = capacity
  if known[1] then
    local since = math.max(0, now - tonumber(known[2]))
    level = math.min(capacity, tonumber(known[1]) + since * rate)
  end
  levels[i] = level
  if binding and level + 1e-9 < amount then together = false end
end
local said = {}
for i = 1, #KEYS do
  local at = (i - 1) * 5 + 2
  local capacity, rate = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local debt, amount = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local level, left = levels[i], nil
  local allowed = level + 1e-9 >= amount
  if charge then
    left = math.max(-debt, math.min(capacity, level - amount))
  elseif allowed then
    left = math.max(0, level - amount)
  end
  if left and (charge or together) then
    if left >= capacity then
      redis.call('DEL', KEYS[i])
    else
      redis.call('HSET', KEYS[i], 'level', string.format('%.17g', left),
        'at', string.format('%.6f', now))
      redis.call('PEXPIRE', KEYS[i], math.ceil((capacity - left) / rate * 1000) + 1)
    end
  end
  said[2 * i - 1] = allowed and 1 or 0
  said[2 * i] = string.format('%.17g', left or level)
end
return said
"""
