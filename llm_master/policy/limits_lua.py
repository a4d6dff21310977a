"""
The limits kept in Redis or Valkey: one script that reserves, settles, prolongs and stops, each in one atomic step.

Every key of a limiter carries one hash tag, so that all keys of a call lie in one slot of a cluster. Per limit there is
a hash (a ring of 61 one-second cells with their sums, as in memory) and a sorted set of the places taken, each with the
time its lease ends. Time is the server's own.

Per budget and window there is a hash too: ``used`` is all that was taken, ``open`` what calls under way hold of it,
``h:ID`` what each took until it says what it really used; and a sorted set of the calls under way. A call whose lease
is over holds nothing any more, but what it took stays used. Sums are added by the server, whose whole numbers have 64
bits, and compared as texts: numbers of Lua would be exact up to 9,007 USD only.
"""

from __future__ import annotations

import hashlib

__all__ = ["SCRIPT", "SHA"]

# KEYS: window and places of each limit in turn, then sum and open calls of each budget. ARGV: operation, "" for the
# server's time (tests give a time, or a key that counts it), id, then
#   reserve  tokens, lease in seconds, and rpm, tpm, max_concurrency of each limit ("" for none), or amount, most and
#            milliseconds to be kept ("" for ever) of each budget
#            -> {1, cell, milliseconds of the server} or {0, milliseconds to wait or -1, limit's number, kind, certain},
#            of a budget also what is used and what of that is open
#   settle   cell, change of requests, change of tokens, and of each budget what it really came to
#   undo     of a reservation that may have been made: gives its places back, and what it took of budgets
#   prolong  lease in seconds
#   stop     seconds for which nothing more may go
SCRIPT = """
local CELLS = 61
local op, id = ARGV[1], ARGV[3]
local now
if ARGV[2] == '' then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
else
  now = tonumber(ARGV[2]) or tonumber(redis.call('INCRBYFLOAT', ARGV[2], '0.25'))
end
local second = math.floor(now)

local function text(n) return string.format('%.0f', n) end

local function keep(key, stop)
  redis.call('PEXPIRE', key, text(math.ceil(math.max(CELLS + 1, stop - now + 1) * 1000)))
end

-- The window of a key with all that has left it taken out.
local function advanced(key)
  local v = redis.call('HMGET', key, 'cell', 'R', 'T', 'n', 'stop')
  local w = {cell = tonumber(v[1]), R = tonumber(v[2]) or 0, T = tonumber(v[3]) or 0,
             n = tonumber(v[4]) or 0, stop = tonumber(v[5]) or 0}
  if w.cell and w.cell - second >= CELLS then
    -- The server's clock was set back. All that was used counts as used now: never too much, and over in a minute.
    redis.call('DEL', key)
    redis.call('HSET', key, 'cell', text(second), 'R', text(w.R), 'T', text(w.T), 'n', text(w.n),
               'r' .. second % CELLS, text(w.R), 't' .. second % CELLS, text(w.T))
    w.cell = second
  elseif not w.cell then
    w.cell = second
    redis.call('HSET', key, 'cell', text(second))
  elseif w.cell < second then
    local fields = {}
    for c = w.cell + 1, math.min(second, w.cell + CELLS) do
      fields[#fields + 1] = 'r' .. c % CELLS
      fields[#fields + 1] = 't' .. c % CELLS
    end
    local gone = redis.call('HMGET', key, unpack(fields))
    for i = 1, #gone, 2 do
      w.R = w.R - (tonumber(gone[i]) or 0)
      w.T = w.T - (tonumber(gone[i + 1]) or 0)
    end
    redis.call('HDEL', key, unpack(fields))
    redis.call('HSET', key, 'cell', text(second), 'R', text(w.R), 'T', text(w.T))
    w.cell = second
  end
  return w
end

-- Seconds until at least `excess` of a count has left the window.
local function free_in(key, w, name, excess)
  local fields = {}
  for c = w.cell - CELLS + 1, w.cell do fields[#fields + 1] = name .. c % CELLS end
  local counts = redis.call('HMGET', key, unpack(fields))
  for i = 1, CELLS do
    excess = excess - (tonumber(counts[i]) or 0)
    if excess <= 0 then return w.cell + i - now end
  end
  return w.cell + CELLS - now
end

local function is_budget(i) return string.find(KEYS[2 * i - 1], '^{[^}]*}:u:') ~= nil end

local function negative(amount) return amount == '0' and '0' or '-' .. amount end

local function more(a, b) return #a > #b or (#a == #b and a > b) end

-- A call holds nothing of a budget any more; what it took stays used.
local function unhold(key, open, id)
  if redis.call('ZREM', open, id) == 1 then
    redis.call('HINCRBY', key, 'open', negative(redis.call('HGET', key, 'h:' .. id) or '0'))
  end
end

-- Why an amount does not fit, with what is used and open.
local function lacks_money(key, open, amount, most)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', open, '-inf', string.format('%.6f', now))) do
    unhold(key, open, id)
  end
  redis.call('HINCRBY', key, 'used', amount)
  local after = redis.call('HGET', key, 'used')
  redis.call('HINCRBY', key, 'used', negative(amount))
  if not more(after, most) then return nil end
  local held = redis.call('HGET', key, 'open') or '0'
  local kind = 'budget'
  if held ~= '0' then
    redis.call('HINCRBY', key, 'used', negative(held))
    redis.call('HINCRBY', key, 'used', amount)
    if not more(redis.call('HGET', key, 'used'), most) then kind = 'held' end
    redis.call('HINCRBY', key, 'used', negative(amount))
    redis.call('HINCRBY', key, 'used', held)
  end
  return kind, redis.call('HGET', key, 'used'), held
end

local function hold(key, open, amount, kept, lease)
  if redis.call('HSETNX', key, 'h:' .. id, amount) == 1 then
    redis.call('HINCRBY', key, 'used', amount)
    redis.call('HINCRBY', key, 'open', amount)
    redis.call('ZADD', open, string.format('%.6f', now + lease), id)
  end
  if kept ~= '' then redis.call('PEXPIRE', open, kept) end
end

-- What a call took is what it came to; once.
local function spend(key, open, final)
  local taken = redis.call('HGET', key, 'h:' .. id)
  if not taken then return end
  unhold(key, open, id)
  redis.call('HDEL', key, 'h:' .. id)
  redis.call('HINCRBY', key, 'used', negative(taken))
  redis.call('HINCRBY', key, 'used', final)
end

if op == 'reserve' then
  local tokens, lease = tonumber(ARGV[4]), tonumber(ARGV[5])
  local windows, worst = {}, nil
  for i = 1, #KEYS / 2 do
    if is_budget(i) then
      local kind, used, held = lacks_money(KEYS[2 * i - 1], KEYS[2 * i], ARGV[3 + 3 * i], ARGV[4 + 3 * i])
      if ARGV[5 + 3 * i] ~= '' then redis.call('PEXPIRE', KEYS[2 * i - 1], ARGV[5 + 3 * i]) end
      if kind == 'budget' then return {0, -1, i, kind, 1, used, held} end
      if kind then worst = worst or {wait = -1, limit = i, kind = kind, certain = 0, used = used, held = held} end
    end
  end
  for i = 1, #KEYS / 2 do if not is_budget(i) then
    local key, places = KEYS[2 * i - 1], KEYS[2 * i]
    local rpm, tpm, most = tonumber(ARGV[3 + 3 * i]), tonumber(ARGV[4 + 3 * i]), tonumber(ARGV[5 + 3 * i])
    local w = advanced(key)
    windows[i] = w
    local function lacks(wait, kind, certain)
      if not worst or wait > worst.wait then
        worst = {wait = wait, limit = i, kind = kind, certain = certain and 1 or 0}
      end
    end
    if w.stop > now then lacks(w.stop - now, 'provider', true) end
    if rpm and w.R >= rpm then lacks(free_in(key, w, 'r', w.R + 1 - rpm), 'rpm', true) end
    if tpm and w.T + tokens > tpm then lacks(free_in(key, w, 't', w.T + tokens - tpm), 'tpm', w.n <= 0) end
    if most then
      redis.call('ZREMRANGEBYSCORE', places, '-inf', string.format('%.6f', now))
      if redis.call('ZCARD', places) >= most then lacks(-1, 'max_concurrency', false) end
    end
    keep(key, w.stop)
  end end
  if worst then
    local wait = worst.wait < 0 and -1 or math.ceil(worst.wait * 1000)
    return {0, wait, worst.limit, worst.kind, worst.certain, worst.used, worst.held}
  end
  local cell = second
  for i, w in pairs(windows) do cell = math.max(cell, w.cell) end
  for i = 1, #KEYS / 2 do if is_budget(i) then
    hold(KEYS[2 * i - 1], KEYS[2 * i], ARGV[3 + 3 * i], ARGV[5 + 3 * i], lease)
  end end
  for i, w in pairs(windows) do
    local key, places = KEYS[2 * i - 1], KEYS[2 * i]
    -- The newest cell of its own window: a little ahead of the clock if that was set back by less than a minute.
    redis.call('HINCRBY', key, 'r' .. w.cell % CELLS, 1)
    redis.call('HINCRBY', key, 't' .. w.cell % CELLS, text(tokens))
    redis.call('HSET', key, 'R', text(w.R + 1), 'T', text(w.T + tokens), 'n', text(w.n + 1))
    if ARGV[5 + 3 * i] ~= '' then
      redis.call('ZADD', places, string.format('%.6f', now + lease), id)
      redis.call('PEXPIRE', places, text(math.ceil(lease * 1000) + 1000))
    end
  end
  return {1, cell, math.floor(now * 1000)}
end

local budgets = 0
for i = 1, #KEYS / 2 do
  local key, places = KEYS[2 * i - 1], KEYS[2 * i]
  if is_budget(i) then
    budgets = budgets + 1
    if op == 'settle' then spend(key, places, ARGV[6 + budgets])
    elseif op == 'undo' then spend(key, places, '0')
    elseif op == 'prolong' then redis.call('ZADD', places, 'XX', string.format('%.6f', now + tonumber(ARGV[4])), id)
    end
  elseif op == 'undo' then
    redis.call('ZREM', places, id)
  elseif op == 'settle' then
    redis.call('ZREM', places, id)
    local cell = tonumber(ARGV[4])
    local v = redis.call('HMGET', key, 'cell', 'n', 'r' .. cell % CELLS, 't' .. cell % CELLS)
    local newest = tonumber(v[1])
    if newest then
      if (tonumber(v[2]) or 0) > 0 then redis.call('HINCRBY', key, 'n', -1) end
      if newest >= cell and newest - cell < CELLS then
        -- Never below nothing: the store may have lost what it is told to give back.
        local requests = math.max(tonumber(ARGV[5]), -(tonumber(v[3]) or 0))
        local tokens = math.max(tonumber(ARGV[6]), -(tonumber(v[4]) or 0))
        if requests ~= 0 then
          redis.call('HINCRBY', key, 'r' .. cell % CELLS, text(requests))
          redis.call('HINCRBY', key, 'R', text(requests))
        end
        if tokens ~= 0 then
          redis.call('HINCRBY', key, 't' .. cell % CELLS, text(tokens))
          redis.call('HINCRBY', key, 'T', text(tokens))
        end
      end
    end
  elseif op == 'prolong' then
    local lease = tonumber(ARGV[4])
    -- Only while it is there: a call that has ended meanwhile must not come back.
    redis.call('ZADD', places, 'XX', string.format('%.6f', now + lease), id)
    redis.call('PEXPIRE', places, text(math.ceil(lease * 1000) + 1000))
  elseif op == 'stop' then
    local w = advanced(key)
    local stop = math.max(w.stop, now + tonumber(ARGV[4]))
    redis.call('HSET', key, 'stop', string.format('%.6f', stop))
    keep(key, stop)
  end
end
return {1}
"""

SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
