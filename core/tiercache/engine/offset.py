"""The clock of a shared tier, as all who share it must date by one.

Measured as NTP does (RFC 5905, sections 8 and 10): of several questions the one that was answered quickest
says most, and what it says may be wrong by half of the time that it took. What clocks may have drifted apart
since speaks for a younger one.

So a change that another process began when this one's had returned is dated after it. What ends what others
began is dated as late as it may be, and its caller goes on when that moment has surely passed (as "commit
wait" in Corbett et al., "Spanner", OSDI 2012). Mostly it has: a change takes a way to the server and back,
and the quickest of some questions took no longer.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from tiercache.clock import Clock
from tiercache.contracts import Dates
from tiercache.engine.guard import Guard

QUESTIONS: Final = 8
"""Asked at a time, as the first may pay for a connection or a script, and any for what else goes on."""
BURST: Final = 0.1
"""Seconds after which no more are asked."""
AGAIN: Final = 10.0
"""Seconds after which they are asked again."""
DRIFT: Final = 15e-6
"""Seconds that two clocks may drift apart in one (RFC 5905: PHI)."""
TIMER: Final = 0.001
"""Seconds below which giving way to others again and again is closer than a timer."""


class _Sample(NamedTuple):
    doubt: int
    shift: int
    asked_at: float

    def unsure(self, now: float) -> int:
        """Return by how many microseconds `shift` may be wrong at *now*."""
        return self.doubt + int((now - self.asked_at) * DRIFT * 1_000_000)


class Offset:
    """Keeps *clock* at the time of the tier behind *guard*, where that has one."""

    __slots__ = ("_asked_at", "_clock", "_guard", "_sample")

    def __init__(self, guard: Guard, clock: Clock) -> None:
        self._guard = guard
        self._clock = clock
        self._sample: _Sample | None = None
        self._asked_at = -AGAIN

    async def measure(self) -> None:
        """Ask, where it is time to. A clock that a test gave is never moved."""
        tier, clock = self._guard.tier, self._clock
        now = clock.monotonic()
        if clock.exact or now - self._asked_at < AGAIN or not isinstance(tier, Dates):
            return
        began = self._asked_at = now
        quickest: _Sample | None = None
        for _ in range(QUESTIONS):
            told = await self._guard.call(tier.time)
            if told is None:
                break
            done = clock.monotonic()
            took = int((done - now) * 1_000_000)
            here = clock.micros() - clock.shift - took // 2
            # Rounded up: all these are whole microseconds.
            sample = _Sample(took // 2 + 1, told - here, now)
            if quickest is None or sample.doubt < quickest.doubt:
                quickest = sample
            now = done
            if now - began > BURST:
                break
        if quickest is None:
            return
        kept = self._sample
        if kept is None or not _better(kept, quickest, now):
            kept = self._sample = quickest
        clock.shift, clock.doubt = kept.shift, kept.unsure(now)


def _better(kept: _Sample, sample: _Sample, now: float) -> bool:
    """Whether *kept* still says more than a younger *sample*."""
    before, after = kept.unsure(now), sample.unsure(now)
    # Where both can't be true, somebody has set one of the clocks meanwhile.
    return before < after and abs(kept.shift - sample.shift) <= before + after


async def past(clock: Clock, stamp: int) -> None:
    """Wait until nobody can date what begins from now on at or before *stamp*."""
    while clock.doubt and (ahead := clock.ahead(stamp)):  # noqa: ASYNC110 - nothing tells of time
        # The timers of loops are of whole milliseconds; a set that waited for one would take thrice as long.
        await asyncio.sleep(ahead if ahead >= TIMER else 0)
