"""What runs inside the server, so that comparing a stamp and storing a frame are one act.

Stamps have 64 bits and Lua's numbers 53, so a stamp is compared as two halves, each exact. Never as strings:
Lua orders strings by the server's locale. Plain Lua 5.1 and commands of Redis 6.2.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Final, NamedTuple

from tiercache import NEVER, Record


class Script(NamedTuple):
    """A script and the digest that the server knows it by."""

    source: str
    digest: str


def life(record: Record, now: int) -> bytes:
    """Return how long *record* may stay, counted from *now* in microseconds: milliseconds as text, "" for
    ever, "0" for over.
    """
    if record.expires_at == NEVER:
        return b""
    return b"%d" % max(0, (record.expires_at - now) // 1000)


# What changes a key tells so, where there is a channel: the last three arguments are the channel, who speaks,
# and "1" where the last key is the hash whose field "#" counts the messages. The count begins at the time, so
# that none comes again after a flush.
_TELLS: Final = """
local channel, sender, counted = ARGV[#ARGV - 2], ARGV[#ARGV - 1], ARGV[#ARGV] == '1'
local last = counted and #KEYS - 1 or #KEYS
local told = {}
local function tell(key, stamp) told[#told + 1] = struct.pack('>I2', #key) .. key .. stamp end
local function number(at)
  if counted and (type(at) ~= 'number' or at <= 1) then
    local now = redis.call('TIME')
    at = now[1] * 1000000 + now[2]
    redis.call('HSET', KEYS[#KEYS], '#', string.format('%.0f', at))
  end
  return struct.pack('>I4>I4', math.floor(at / 4294967296), at % 4294967296)
end
local function announce(kind)
  if channel == '' or #told == 0 then return end
  local at = counted and redis.pcall('HINCRBY', KEYS[#KEYS], '#', 1) or 0
  redis.call('PUBLISH', channel, kind .. sender .. number(at) .. table.concat(told))
end
"""


def _script(source: str) -> Script:
    # SHA-1 is how EVALSHA names scripts; nothing here rests on its strength.
    return Script(source, sha1(source.encode(), usedforsecurity=False).hexdigest())


# A key that holds no string, or too short a one, is no frame: nothing stands there, and it is overwritten.
_STANDS: Final = """
local function stands(key)
  local stamp = redis.pcall('GETRANGE', key, 0, 7)
  if type(stamp) == 'string' and #stamp == 8 then return stamp end
  return nil
end
local function store(key, frame, life)
  if life == '' then redis.call('SET', key, frame)
  elseif life == '0' then redis.call('UNLINK', key)
  else redis.call('SET', key, frame, 'PX', life) end
end
local function below(stamp, other)
  local high, low = struct.unpack('>I4>I4', stamp)
  local other_high, other_low = struct.unpack('>I4>I4', other)
  return high < other_high or (high == other_high and low < other_low)
end
local function next_after(stamp)
  local high, low = struct.unpack('>I4>I4', stamp)
  if low < 4294967295 then return struct.pack('>I4>I4', high, low + 1) end
  if high < 4294967295 then return struct.pack('>I4>I4', high + 1, 0) end
  return stamp
end
"""

_PUT: Final = """
local function put(key, frame, life, letter)
  local stamp = stands(key)
  local result = 1
  if stamp and not below(stamp, frame) then
    if letter ~= 117 then return 0 end
    result = next_after(stamp)
    frame = result .. frame:sub(9)
  end
  store(key, frame, life)
  if stamp or letter ~= 99 then tell(key, frame:sub(1, 8)) end
  return result
end
"""

WRITE: Final = _script(
    _STANDS
    + _TELLS
    + _PUT
    + """
local reply = {}
for i = 1, last do
  reply[i] = put(KEYS[i], ARGV[2 * i], ARGV[2 * i + 1], ARGV[1]:byte(i))
end
announce('c')
return reply
"""
)
"""KEYS: the keys. ARGV: one letter a record ("u" unconditional, "c" conditional, "n" that and news), then
frame and `life` of each.

Replies for each 1 where the frame stands as sent, 0 where it was kept out, else the eight bytes of the stamp
it stands under. What was read or loaded before and finds nothing standing changes nothing for anybody, and is
not told.
"""

WRITE_LEASED: Final = _script(
    _STANDS
    + _TELLS
    + _PUT
    + """
local reply = {}
for i = 1, last / 2 do
  local lease, token = KEYS[2 * i], ARGV[3 * i + 1]
  local held = token == '' or token == '*' or redis.call('GET', lease) == token
  if held and token ~= '' then redis.call('UNLINK', lease) end
  reply[i] = -1
  if held then reply[i] = put(KEYS[2 * i - 1], ARGV[3 * i - 1], ARGV[3 * i], ARGV[1]:byte(i)) end
end
announce('c')
return reply
"""
)
"""The same for records of which some have a lease. KEYS: key and lease of each. ARGV: the letters, then
frame, `life` and token ("" for none, "*" to void) of each. Replies -1 where a lease is not held.
"""

DELETE: Final = _script(
    _TELLS
    + """
local reply = {}
for i = 1, last do
  reply[i] = redis.call('UNLINK', KEYS[i])
  tell(KEYS[i], string.rep('\\255', 8))
end
announce('c')
return reply
"""
)
"""KEYS: the keys. Replies 1 or 0 for each."""

SWAP: Final = _script(
    _STANDS
    + _TELLS
    + """
if (stands(KEYS[1]) or '') ~= ARGV[3] then return 0 end
store(KEYS[1], ARGV[1], ARGV[2])
tell(KEYS[1], ARGV[1]:sub(1, 8))
announce('c')
return 1
"""
)
"""KEYS: the key. ARGV: frame, `life`, the stamp expected as eight bytes ("" for nothing). Replies 1 or 0."""

INCREMENT: Final = _script(
    _STANDS
    + _TELLS
    + """
local key, frame, life, delta = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local stamp = stands(key)
if not stamp then
  if redis.pcall('EXISTS', key) == 1 then return 0 end
  store(key, frame, life)
  tell(key, frame:sub(1, 8))
  announce('c')
  return frame
end
local old = redis.call('GET', key)
local flags = old:byte(12) or 0
if old:sub(9, 10) ~= 'tC' then return 0 end
if #old < 48 or flags % 4 == 0 then return 0 end
local raised = next_after(stamp)
if below(raised, frame) then raised = frame:sub(1, 8) end
if flags % 2 == 1 then
  frame = raised .. frame:sub(9)
  store(key, frame, life)
  tell(key, raised)
  announce('c')
  return frame
end
local start = 49 + old:byte(13) + old:byte(14)
for _ = 1, old:byte(15) * 256 + old:byte(16) do
  if start + 1 > #old then return 0 end
  start = start + 2 + old:byte(start) * 256 + old:byte(start + 1)
end
redis.call('SET', key, old:sub(start), 'KEEPTTL')
local sum = redis.pcall('INCRBY', key, delta)
if type(sum) == 'table' then
  redis.call('SET', key, old, 'KEEPTTL')
  if sum.err:find('overflow', 1, true) then return 1 end
  return 0
end
frame = raised .. old:sub(9, start - 1) .. redis.call('GET', key)
redis.call('SET', key, frame, 'KEEPTTL')
tell(key, raised)
announce('c')
return frame
"""
)
"""KEYS: the key. ARGV: the frame to begin with, its `life`, the delta. Replies the frame that stands then,
0 where no counter does, 1 where the sum does not fit.

The payload is put in the key's place for the moment of an INCRBY, whose 64 bits Lua does not have; nobody
sees it, because a script is one act. A tombstone counts as nothing standing, but its stamp is outbid.
"""

MARK: Final = _script(
    _STANDS
    + _TELLS
    + """
local least = ARGV[1]
for i = 2, #ARGV - 3, 2 do
  local stood = redis.call('HGET', KEYS[1], ARGV[i])
  if not stood or #stood ~= 8 or below(stood, ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    tell(ARGV[i], ARGV[i + 1])
  end
end
if least ~= '' then
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    if all[i] ~= '#' and all[i] ~= '@' and #all[i + 1] == 8 and below(all[i + 1], least) then
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
end
if #told > 0 then
  local count = redis.call('HINCRBY', KEYS[1], '@', 1)
  if count == 1 then
    local now = redis.call('TIME')
    redis.call('HSET', KEYS[1], '@', now[1] .. string.format('%06d', now[2]))
  end
end
announce('m')
return 1
"""
)
"""KEYS: the hash of the markers. ARGV: the stamp below which they are dropped ("" for none), then name and
stamp of each that rises. The field "@" counts the calls that changed something, from the time on, so that no
number comes again after a flush.
"""

BEAT: Final = _script(
    _TELLS
    + """
local at = counted and tonumber(redis.call('HGET', KEYS[1], '#') or '0') or 0
redis.call('PUBLISH', channel, 'b' .. sender .. number(at) .. ARGV[1])
return 1
"""
)
"""KEYS: the hash whose messages are counted, if they are. ARGV: what is to come back."""

NOW: Final = _script("return redis.call('TIME')")
"""KEYS: a key, for its node. Replies seconds and microseconds."""

ACQUIRE: Final = _script(
    _STANDS
    + """
local reply = {}
for i = 1, #KEYS / 2 do
  local lease, fences = KEYS[2 * i - 1], KEYS[2 * i]
  local token, life, fence = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1]
  local holder = redis.call('GET', lease)
  reply[i] = 0
  if not holder or holder == token then
    redis.call('SET', lease, token, 'PX', life)
    reply[i] = 1
    if fence ~= '' then
      local last = redis.call('GET', fences)
      if last and holder then fence = last
      elseif last and not below(last, fence) then fence = next_after(last) end
      redis.call('SET', fences, fence, 'PX', ARGV[1])
      reply[i] = fence
    end
  end
end
return reply
"""
)
"""KEYS: lease and fence of each. ARGV: milliseconds for which fences are remembered, then token, life in
milliseconds and the lowest fence (eight bytes; "" for none) of each. Replies for each 0 where another token
holds it, else 1 or its fence.
"""

PROLONG: Final = _script(
    """
local reply = {}
for i, lease in ipairs(KEYS) do
  reply[i] = 0
  if redis.call('GET', lease) == ARGV[2 * i - 1] then reply[i] = redis.call('PEXPIRE', lease, ARGV[2 * i]) end
end
return reply
"""
)
"""KEYS: the leases. ARGV: token and life of each. Replies 1 or 0 for each."""

RELEASE: Final = _script(
    """
local reply = {}
for i, lease in ipairs(KEYS) do
  reply[i] = 0
  if redis.call('GET', lease) == ARGV[i] then reply[i] = redis.call('UNLINK', lease) end
end
return reply
"""
)
"""KEYS: the leases. ARGV: their tokens. Replies 1 or 0 for each."""

VOID: Final = _script(
    """
local reply = {}
for i, lease in ipairs(KEYS) do reply[i] = redis.call('UNLINK', lease) end
return reply
"""
)
"""KEYS: the leases. Replies 1 or 0 for each."""
