"""Records on their way into a script: as much at a time as passes within the timeout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tiercache import Record
from tiercache_plugins.tiers.redis.scripts import life

AT_ONCE: Final = 1 << 20
"""A command must pass within the timeout, and holds up everybody while it runs."""


def written(records: Sequence[Record], now: int) -> tuple[list[str], list[bytes]]:
    """Return the keys and the arguments that the script for writing takes."""
    arguments = [bytes(99 if record.conditional else 117 for record in records)]
    for record in records:
        arguments += record.frame, life(record, now)
    return [record.key for record in records], arguments


def by_size(group: Sequence[int], records: Sequence[Record]) -> list[Sequence[int]]:
    """Return *group* in parts whose frames have at most 1 MiB together, or are alone."""
    parts: list[Sequence[int]] = []
    start, total = 0, 0
    for n, i in enumerate(group):
        length = len(records[i].frame)
        if n > start and total + length > AT_ONCE:
            parts.append(group[start:n])
            start, total = n, 0
        total += length
    parts.append(group[start:])
    return parts
