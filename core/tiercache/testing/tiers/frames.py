"""Frames and records as the kernel makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiercache.clock import NEVER
from tiercache.contracts import Counts, Record
from tiercache.frame import COUNTER, TOMBSTONE, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Sequence


def frame_of(
    address: str, payload: bytes = b"value", *, stamp: int = 1, flags: int = 0, tags: Sequence[str] = ()
) -> bytes:
    """Return a frame for *address*, a key with its namespace in front, that carries *payload*.

    Counters and tombstones name no serializer and no size, as in the kernel.
    """
    plain = not flags & (COUNTER | TOMBSTONE)
    return pack(
        address.encode(),
        flags=flags,
        serializer=b"raw" if plain else b"",
        compressor=b"",
        created_at=stamp,
        fresh_until=NEVER,
        stale_until=NEVER,
        size=len(payload) if plain else 0,
        tags=tags,
        payload=payload,
    )


def record_of(
    address: str,
    payload: bytes | int = b"value",
    *,
    stamp: int = 1,
    expires_at: int = NEVER,
    conditional: bool = False,
    flags: int = 0,
) -> Record:
    """Return a record for *address*. Where *payload* is an int, it carries a counter."""
    if isinstance(payload, int):
        payload, flags = b"%d" % payload, flags | COUNTER
    frame = frame_of(address, payload, stamp=stamp, flags=flags)
    return Record(address, frame, expires_at, stamp, conditional)


async def raised(tier: Counts, record: Record, delta: int) -> int:
    """Add *delta* to a counter of *tier*; return what is in the frame that the tier says stands then."""
    frame = await tier.increment(record, delta)
    head = unpack(record.key.encode(), frame)
    assert head.flags & COUNTER
    return int(frame[head.payload :])
