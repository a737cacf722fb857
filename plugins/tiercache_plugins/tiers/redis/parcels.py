"""Keys on their way into a command, records on theirs into a script: as many as pass within the timeout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tiercache import Record
from tiercache_plugins.tiers.redis.leases import Leases
from tiercache_plugins.tiers.redis.line import Command
from tiercache_plugins.tiers.redis.scripts import WRITE, WRITE_LEASED, Script, life

READ_AT_ONCE: Final = 128
"""A longer batch is several MGETs in one write: the timeout is for each reply, however large the frames."""
MARKED_AT_ONCE: Final = 500
AT_ONCE: Final = 1 << 20
"""A command must pass within the timeout, and holds up everybody while it runs."""


def reading(groups: Sequence[Sequence[int]], keys: Sequence[str]) -> list[Command]:
    """Return the command that reads each group of *keys*."""
    return [("MGET", *map(keys.__getitem__, group)) for group in groups]


def framed(
    groups: Sequence[Sequence[int]], replies: Sequence[list[bytes | None]], count: int
) -> list[bytes | None]:
    """Return what *replies* to `reading` bring, a frame for each of *count* keys in their order."""
    if len(groups) == 1 and isinstance(groups[0], range):
        return replies[0]
    frames: list[bytes | None] = [None] * count
    for group, reply in zip(groups, replies, strict=True):
        for i, frame in zip(group, reply, strict=True):
            frames[i] = frame
    return frames


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
