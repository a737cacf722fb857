"""What stands under the keys that a transaction is about, and whether it is sound."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from zlib import crc32

from tiercache import NEVER
from tiercache.frame import stamp_of
from tiercache_plugins.tiers.sqlite.batches import Finder, parts


class Standing(NamedTuple):
    """The row of a key, as a write finds it."""

    id: int
    size: int
    due: int
    """When the row is looked at for expiry; not after it expires."""
    stamp: int | None
    """None where it has expired or is damaged: then nothing stands, but the row is there."""


def stands(
    finder: Finder, connection: sqlite3.Connection, keys: Sequence[bytes], now: int
) -> tuple[dict[bytes, Standing], int]:
    """Return the row of each of *keys* that has one, and how many of them are damaged."""
    standing: dict[bytes, Standing] = {}
    damaged = 0
    for part in parts(keys):
        for place, row, expires, summed, size, due, frame in finder.find(connection, part):
            key = part[place]
            sound = _sound(key, expires, summed, frame)
            damaged += not sound
            standing[key] = Standing(
                row,
                size if isinstance(size, int) else 0,
                due if isinstance(due, int) else NEVER,
                stamp_of(frame) if sound and expires > now else None,
            )
    return standing, damaged


def checksum(key: bytes, expires: int, frame: bytes) -> int:
    """Return what tells whether a row is as it was written."""
    return crc32(frame, crc32(key, crc32(expires.to_bytes(8))))


UNSOUND: Final = (TypeError, AttributeError, OverflowError)
"""What `checksum` raises for what no row of ours holds."""


def _sound(key: Any, expires: Any, summed: object, frame: Any) -> bool:
    # A damaged row may hold anything: SQLite's types belong to the value, not to the column. What is of
    # another type, or negative, has no checksum; to look at each type first took as long as the sum.
    try:
        return summed == checksum(key, expires, frame)
    except UNSOUND:
        return False
