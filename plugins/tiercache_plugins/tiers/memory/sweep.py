"""The search for dead entries, a step at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Final

from tiercache import Entry
from tiercache_plugins.tiers.memory.segment import Segment

BATCH: Final = 32
"""Entries dropped in one step."""
CHUNK: Final = 256
"""Entries looked at in one step."""
REST: Final = 20
IDLE_REST: Final = 100
"""How much longer than a sweep took it rests: after one that found something, after one that did not."""


class Sweep:
    """Where the search for dead entries stands."""

    __slots__ = (
        "_at", "_dead", "_found", "_parts", "_seen", "_since", "_spent", "_until", "_values", "running",
    )  # fmt: skip

    def __init__(self, parts: tuple[Segment, ...]) -> None:
        self._parts = parts
        self._since = self._until = -math.inf
        self.running = False
        """Whether a sweep has begun and not come to its end."""
        self._spent = 0.0
        self._found = 0
        self._start(0)

    def _start(self, at: int) -> None:
        self._at = at
        self._seen = 0
        self._dead: list[Entry] = []
        self._values: Iterator[Entry] | None = None

    def due(self, now: float) -> bool:
        """Return whether there is something to sweep at *now*; begin, where the rest is over."""
        if not self.running and not self._since <= now < self._until:
            self.running = True
            self._spent = 0.0
            self._found = 0
            self._since = now
            self._start(0)
        return self.running

    def step(self, now: float) -> tuple[Segment, list[Entry]]:
        """Look at some entries, or name some that are to be dropped from a part.

        The dead are gathered over a whole part before the first of them goes, as dropping one ends the
        iterator.
        """
        if not self.running:
            return self._parts[0], []
        part = self._parts[self._at]
        values = self._chunk(part.entries) if not self._dead or self._values is not None else []
        if values:
            self._seen += len(values)
            self._dead += [entry for entry in values if entry.fresh_until <= now and _dead(entry, now)]
            return part, []
        self._values = None
        batch = self._dead[-BATCH:]
        del self._dead[-BATCH:]
        # Gone or renewed since they were seen.
        batch = [entry for entry in batch if part.entries.get(entry.key) is entry and _dead(entry, now)]
        self._found += len(batch)
        if not self._dead:
            if self._at + 1 < len(self._parts):
                self._start(self._at + 1)
            else:
                self.running = False
        return part, batch

    def paused(self, now: float, spent: float) -> None:
        """Take note that a slice of *spent* seconds is over; where it was the last, begin to rest."""
        self._spent += spent
        if not self.running:
            self._until = now + self._spent * (REST if self._found else IDLE_REST)

    def _chunk(self, entries: dict[str, Entry]) -> list[Entry]:
        """Return the next entries; none at the end.

        An iterator that entries came or went under is made anew, and skips as many as were seen. What is
        missed by that is found by the next sweep. Where readers reorder faster than that, a chunk from the
        start is as good as any.
        """
        for _ in range(3):
            try:
                if self._values is None:
                    self._values = islice(iter(entries.values()), self._seen, None)
                return list(islice(self._values, CHUNK))
            except RuntimeError:
                self._values = None
        return []


def _dead(entry: Entry, now: float) -> bool:
    return entry.fresh_until + entry.terms.stale <= now


def dismantle(retired: list[Segment]) -> list[Entry]:
    """Drop a few entries of the last of *retired*, and strike it off when it is empty; return what went."""
    if not retired:
        return []
    part = retired[-1]
    gone = part.victims(BATCH, 0) or list(islice(part.entries.values(), BATCH))
    part.drop(gone)
    if not part.entries:
        retired.pop()
    return gone
