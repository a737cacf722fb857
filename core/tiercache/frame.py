"""A frame: an entry as bytes. What far tiers store, and what a tier's author needs to know of it.

    0  stamp        8   big-endian; orders writes of a key. A tier may raise it (`restamped`)
    8  magic        2   "tC"
   10  version      1   of this layout
   11  flags        1   TOMBSTONE, COUNTER, SEALED, SLIDING
   12  serializer   1   bytes of its name
   13  compressor   1   bytes of its name; 0 for none
   14  tags         2   how many
   16  created_at   8   microseconds since the epoch, as all times here
   24  fresh_until  8   NEVER for no expiry
   32  stale_until  8   where SLIDING, the end beyond which reads don't lengthen the life
   40  size         4   bytes of the payload before compression; 0 for a counter, whose payload may grow
   44  checksum     4   CRC-32 of the key, bytes 8 to 43, names, tags, payload
   48  names, then tags (each two bytes of length, then UTF-8), then the payload

The stamp stands outside the checksum so that a script in the store can raise it. So does the payload of a
counter, a plain decimal that a script adds to; it is checked by its form instead. Readers go by the header,
never by today's settings.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple
from zlib import crc32

from tiercache.errors import Undecodable

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC: Final = b"tC"
VERSION: Final = 1

TOMBSTONE: Final = 1
"""Flag: nothing is here, and since when."""
COUNTER: Final = 2
"""Flag: the payload is a plain decimal of 64 bits."""
SEALED: Final = 4
"""Flag: the serializer has sealed the payload."""
SLIDING: Final = 8
"""Flag: reads lengthen the life, up to the time that stands in place of `stale_until`."""
KNOWN: Final = TOMBSTONE | COUNTER | SEALED | SLIDING

HEADER: Final = struct.Struct(">Q2sBBBBHqqqII")
LARGEST: Final = 2**32 - 1
"""Bytes that a payload may have before compression, by the width of its field."""
_HEADER: Final = HEADER.size
_FIELDS = struct.Struct(">Q2sBBBBHqqqI")
"""The header but for its checksum."""
_COPIED: Final = 4096
_STAMP = struct.Struct(">Q")
_LENGTH = struct.Struct(">H")


_tuple = tuple.__new__


class Head(NamedTuple):
    """What a frame says before its payload."""

    stamp: int
    flags: int
    serializer: str
    compressor: str
    created_at: int
    fresh_until: int
    stale_until: int
    size: int
    tags: tuple[str, ...]
    payload: int
    """Where the payload begins."""
    end: int = 0
    """Where reads lengthen the life, the time beyond which they don't; else 0."""


def stamp_of(frame: bytes) -> int:
    """Return the stamp in front of *frame*; 0 where it is too short to have one."""
    return int.from_bytes(frame[:8], "big") if len(frame) >= 8 else 0


def restamped(frame: bytes, stamp: int) -> bytes:
    """Return *frame* with *stamp* in front."""
    return _STAMP.pack(stamp) + frame[8:]


def about(address: bytes, frame: bytes, head: Head) -> bytes:
    """Return what a seal covers beside the payload: the key, and the header without stamp and checksum."""
    return b"%d:%b%b%b" % (len(address), address, frame[8:44], frame[48 : head.payload])


def pack(
    address: bytes,
    *,
    flags: int,
    serializer: bytes,
    compressor: bytes,
    created_at: int,
    fresh_until: int,
    stale_until: int,
    size: int,
    tags: Sequence[str],
    payload: bytes,
) -> bytes:
    """Return the frame of an entry. *address* is the key with its namespace, in UTF-8."""
    middle = serializer + compressor
    if tags:
        middle += b"".join(_LENGTH.pack(len(tag)) + tag for tag in (tag.encode() for tag in tags))
    header = _FIELDS.pack(
        created_at, MAGIC, VERSION, flags, len(serializer), len(compressor), len(tags),
        created_at, fresh_until, stale_until, size,
    )  # fmt: skip
    checksum = crc32(middle, crc32(header[8:], crc32(address)))
    if not flags & COUNTER:
        checksum = crc32(payload, checksum)
    return b"".join((header, checksum.to_bytes(4, "big"), middle, payload))


def unpack(address: bytes, frame: bytes) -> Head:
    """Check *frame* whole and return its head. Raises Undecodable."""
    if len(frame) < _HEADER:
        raise Undecodable(f"a frame has at least {HEADER.size} bytes; this one has {len(frame)}")
    (stamp, magic, version, flags, serializer_length, compressor_length, tag_count,
     created_at, fresh_until, stale_until, size, checksum) = HEADER.unpack_from(frame)  # fmt: skip
    if magic != MAGIC:
        raise Undecodable("not a frame")
    if version != VERSION or flags & ~KNOWN:
        raise Undecodable(
            f"a frame of version {version}, flags {flags:#x}; this release reads version {VERSION}"
        )
    length = len(frame)
    names = end = _HEADER + serializer_length + compressor_length
    if tag_count:
        for _ in range(tag_count):
            if end + 2 > length:
                raise Undecodable("the frame ends inside its tags")
            end += 2 + int.from_bytes(frame[end : end + 2], "big")
    if end > length:
        raise Undecodable("the frame ends inside its header")
    # A copy of a few bytes is made sooner than a view of them.
    covered: bytes | memoryview = frame if length <= _COPIED else memoryview(frame)
    covered = covered[_HEADER : end if flags & COUNTER else None]
    if checksum != _checksum(address, frame, covered):
        raise Undecodable("the checksum does not fit: damaged, or stored under another key")
    try:
        text = frame[_HEADER:names].decode("ascii")
        tags = _tags(frame, names, tag_count) if tag_count else ()
    except UnicodeDecodeError as error:
        raise Undecodable("names and tags must be text") from error
    last = 0
    if flags & SLIDING:
        # It is no stale copy once it has ended: nobody has asked for it in time.
        last, stale_until = stale_until, fresh_until
    # The class's own way in is a function written in Python: it would be a fifth of all this.
    return _tuple(
        Head,
        (
            stamp, flags, text[:serializer_length], text[serializer_length:], created_at, fresh_until,
            stale_until, size, tags, end, last,
        ),
    )  # fmt: skip


def _tags(frame: bytes, start: int, count: int) -> tuple[str, ...]:
    tags: list[str] = []
    for _ in range(count):
        length = int.from_bytes(frame[start : start + 2], "big")
        tags.append(frame[start + 2 : start + 2 + length].decode())
        start += 2 + length
    return tuple(tags)


def _checksum(address: bytes, header: bytes, covered: bytes | memoryview) -> int:
    return crc32(covered, crc32(header[8:44], crc32(address)))
