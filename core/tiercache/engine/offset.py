"""The clock of a shared tier, as all who share it must date by one.

Measured as NTP does (RFC 5905, sections 8 and 10): of several questions the one that was answered quickest
says most, and what it says may be wrong by half of the time that it took. What clocks may have drifted apart
since speaks for a younger one.

So a change that another process began when this one's had returned is dated after it: between the two lies
the whole of a way to the server and back, and neither clock is wrong by more than half of the quickest.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from tiercache.clock import Clock
from tiercache.contracts import Dates
from tiercache.engine.guard import Guard

SAMPLES: Final = 8
AGAIN: Final = 10.0
"""Seconds between two questions."""
DRIFT: Final = 15e-6
"""Seconds that two clocks may drift apart in one (RFC 5905: PHI)."""


class Offset:
    """Keeps *clock* at the time of the tier behind *guard*, where that has one."""

    __slots__ = ("_asked_at", "_clock", "_guard", "_samples")

    def __init__(self, guard: Guard, clock: Clock) -> None:
        self._guard = guard
        self._clock = clock
        self._samples: deque[tuple[int, int, float]] = deque(maxlen=SAMPLES)
        self._asked_at = -AGAIN

    async def measure(self) -> None:
        """Ask, where it is time to. A clock that a test gave is never moved."""
        tier, clock = self._guard.tier, self._clock
        now = clock.monotonic()
        if clock.exact or now - self._asked_at < AGAIN or not isinstance(tier, Dates):
            return
        self._asked_at = now
        told = await self._guard.call(tier.time)
        if told is None:
            return
        took = int((clock.monotonic() - now) * 1_000_000)
        here = clock.micros() - clock.shift - took // 2
        # Rounded up: all these are whole microseconds.
        self._samples.append((took // 2 + 1, told - here, now))
        clock.doubt, clock.shift, _ = min(
            self._samples, key=lambda sample: sample[0] + (now - sample[2]) * DRIFT * 1_000_000
        )
