"""What was seen lately: one row of looks for everybody who looks, and none while nobody does."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tiercache.engine.stats import Stats

if TYPE_CHECKING:
    from tiercache.dashboard.figures import Figures

KEPT: Final = 300
"""Looks that are kept."""
CHANGES: Final = 20
"""Changes of state that are kept."""
SHARE: Final = 0.01
"""The part of the time that looking may take: a snapshot goes through all near entries."""
GAP: Final = 3.0
"""Intervals after which two looks are too far apart for one to be drawn from the other."""

Values = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the cache."""

    number: int
    """Rises by one with each look."""
    stats: Stats
    recent: Stats | None
    """What came since the look before; None where that is too long ago."""
    values: Values
    """By chart, by series."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of state."""

    at: float
    """Seconds since the epoch."""
    told: str


class History:
    """The last looks, and the changes of state between them. Takes a look when it is asked for one and the
    last is too old; so it has no task of its own.
    """

    __slots__ = (
        "_figures",
        "_lock",
        "_look",
        "_looked",
        "_probe",
        "_wanted",
        "changes",
        "cost",
        "looks",
        "seen",
    )

    def __init__(
        self,
        look: Callable[[], Stats],
        figures: Figures,
        every: float,
        probe: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._look = look
        self._probe = probe
        self._figures = figures
        self._wanted = every
        self._lock = asyncio.Lock()
        self._looked = -float("inf")
        self.looks: deque[Look] = deque(maxlen=KEPT)
        """The oldest first."""
        self.changes: deque[Change] = deque(maxlen=CHANGES)
        """Likewise."""
        self.seen = 0
        """How many changes there were in all."""
        self.cost = 0.0
        """Seconds for which the last look held the event loop."""

    @property
    def every(self) -> float:
        """Seconds between two looks."""
        return max(self._wanted, self.cost / SHARE)

    @property
    def due(self) -> float:
        """Seconds until the next look; zero or less where it is due."""
        return self._looked + self.every - time.monotonic()

    async def current(self) -> Look:
        """Return the newest look, taken now where the last is too old."""
        async with self._lock:
            if self.due <= 0:
                if self._probe is not None:
                    await self._probe()
                began = time.perf_counter()
                stats = self._look()
                self.cost = time.perf_counter() - began
                self._keep(stats)
                self._looked = time.monotonic()
            return self.looks[-1]

    def after(self, number: int) -> Iterator[Look]:
        """Yield the looks after that of *number*, the oldest first."""
        return (look for look in tuple(self.looks) if look.number > number)

    def _keep(self, stats: Stats) -> None:
        before = self.looks[-1] if self.looks else None
        recent = None
        if before is not None:
            # The clock of the cache may be set back, or stand.
            passed = time.monotonic() - self._looked
            recent = stats.since(before.stats) if passed < GAP * self.every else None
            found = [Change(time.time(), told) for told in self._figures.changed(before.stats, stats)]
            self.changes.extend(found)
            self.seen += len(found)
        number = before.number + 1 if before is not None else 1
        self.looks.append(Look(number, stats, recent, self._figures.values(stats, recent)))
