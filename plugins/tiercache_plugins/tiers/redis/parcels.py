"""Records on their way into a script: as much at a time as passes within the timeout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tiercache import Record
from tiercache_plugins.tiers.redis.leases import Leases
from tiercache_plugins.tiers.redis.scripts import WRITE, WRITE_LEASED, Script, life

MARKED_AT_ONCE: Final = 500
AT_ONCE: Final = 1 << 20
"""A command must pass within the timeout, and holds up everybody while it runs."""


def writing(
    parts: Sequence[Sequence[Record]], now: int, leases: Leases
) -> tuple[Script, list[tuple[list[str], list[bytes]]]]:
    """Return the script that writes *parts*, and the keys and arguments of a call for each of them."""
    if not any(record.lease for part in parts for record in part):
        return WRITE, [_written(part, now) for part in parts]
    # All by one script, because two would change the order of the records.
    return WRITE_LEASED, [_leased(part, now, leases) for part in parts]


def _written(records: Sequence[Record], now: int) -> tuple[list[str], list[bytes]]:
    arguments = [_letters(records)]
    for record in records:
        arguments += record.frame, life(record, now)
    return [record.key for record in records], arguments


def _leased(records: Sequence[Record], now: int, leases: Leases) -> tuple[list[str], list[bytes]]:
    keys: list[str] = []
    arguments = [_letters(records)]
    for record in records:
        keys += record.key, leases.holder(record.key)
        arguments += record.frame, life(record, now), record.lease
    return keys, arguments


def _letters(records: Sequence[Record]) -> bytes:
    return b"".join(b"u" if not record.conditional else b"n" if record.news else b"c" for record in records)


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


def marking(markers: Mapping[str, int], below: int) -> Iterator[list[bytes]]:
    """Yield the arguments of each call that raises *markers*; the last one drops those lower than *below*."""
    pairs = [(name.encode(), stamp.to_bytes(8, "big")) for name, stamp in markers.items()]
    least = below.to_bytes(8, "big") if below else b""
    for start in range(0, max(len(pairs), 1), MARKED_AT_ONCE):
        chunk = pairs[start : start + MARKED_AT_ONCE]
        last = start + MARKED_AT_ONCE >= len(pairs)
        yield [least if last else b"", *(part for pair in chunk for part in pair)]
