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
import math
from typing import Final, NamedTuple

from tiercache.clock import Clock
from tiercache.contracts import Dates
from tiercache.engine.guard import Guard
from tiercache.errors import TierError

QUESTIONS: Final = 8
"""Asked at a time, as the first may pay for a connection or a script, and any for what else goes on."""
LEAST: Final = 3
"""Asked however long they take, as what held up one, an import perhaps, seldom holds up the next."""
BURST: Final = 0.1
"""Seconds after which no more than those are asked."""
SOON: Final = 1.0
"""Seconds after which they are asked again at first, and after a failure; then twice as long each time."""
AGAIN: Final = 10.0
"""Seconds after which they are asked again at last."""
BELIEVED: Final = 1.0
"""Seconds that an answer may take: nobody's doubt is more than half of that, and what drift has added."""
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

    __slots__ = ("_again", "_asked_at", "_clock", "_failures", "_guard", "_sample")

    def __init__(self, guard: Guard, clock: Clock) -> None:
        self._guard = guard
        self._clock = clock
        self._sample: _Sample | None = None
        self._asked_at = -math.inf
        self._again = SOON
        self._failures = 0

    def due(self) -> float:
        """Return in how many seconds it is time to ask."""
        if self._clock.exact or not isinstance(self._guard.tier, Dates):
            return math.inf
        return max(self._asked_at + self._again - self._clock.monotonic(), 0.0)

    async def measure(self) -> None:
        """Ask, where it is time to. A clock that a test gave is never moved."""
        if self.due():
            return
        clock, kept = self._clock, self._sample
        self._asked_at = clock.monotonic()
        quickest = await self._quickest()
        now = clock.monotonic()
        if quickest is None:
            self._again = SOON
            if kept is not None:
                # Clocks go on drifting apart, whether anybody answers or not.
                clock.doubt = kept.unsure(now)
            return
        self._again = min(2 * self._again, AGAIN)
        failures = self._guard.counts.errors
        # Who answers after a failure may be another server, whose clock is another.
        if kept is None or failures != self._failures or not _better(kept, quickest, now):
            kept = self._sample = quickest
        self._failures = failures
        clock.shift, clock.doubt = kept.shift, kept.unsure(now)

    async def _quickest(self) -> _Sample | None:
        clock = self._clock
        quickest: _Sample | None = None
        began = now = clock.monotonic()
        for number in range(1, QUESTIONS + 1):
            told = await self._guard.call(self._ask)
            if told is None:
                break
            # Read before the time that it took: what comes between the two is in its doubt then.
            here = clock.micros() - clock.shift
            done = clock.monotonic()
            took = int((done - now) * 1_000_000)
            # Rounded up: all these are whole microseconds.
            sample = _Sample(took // 2 + 1, told + took // 2 - here, now)
            if done - now <= BELIEVED and (quickest is None or sample.doubt < quickest.doubt):
                quickest = sample
            now = done
            if number >= LEAST and now - began > BURST:
                break
        return quickest

    async def _ask(self) -> int:
        tier = self._guard.tier
        assert isinstance(tier, Dates)
        told = await tier.time()
        if type(told) is not int or told <= 0:
            raise TierError(f"answered with {told!r}, no microseconds since the epoch")
        return told


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
