"""Time: the clock that judges, the stamps that order, and the coarse float that near hits compare with."""

from __future__ import annotations

import os
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER: Final = 2**63 - 1
"""The stamp of what never comes, such as the expiry of an entry that has none."""

_FUTURE: Final = 86_400_000_000
_BELIEVED: Final = 2_000_000
_GRAIN: Final = 0.001
_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


class Clock:
    """Wall time for what leaves the process, elapsed time for what stays, stamps for order.

    With a *source* (seconds, as a test's fake clock gives them) everything comes from it, and near hits
    read it on every call instead of the coarse float.

    Stamps are a hybrid logical clock: microseconds since the epoch, but always above the last stamp given
    or seen, so within a process order never depends on the clock (Kulkarni et al., "Logical Physical
    Clocks", OPODIS 2014).
    """

    __slots__ = ("_end", "_last", "doubt", "exact", "monotonic", "shift", "wall")

    def __init__(self, source: Callable[[], float] | None = None) -> None:
        self.exact = source is not None
        """Whether a source was given: near hits then read it on every call."""
        self.wall: Callable[[], float] = source or time.time
        """Seconds since the epoch, as this host has them."""
        self.monotonic: Callable[[], float] = source or (
            # time.monotonic stands still while a laptop sleeps; what was cached before would outlive its TTL.
            partial(time.clock_gettime, _BOOTTIME) if _BOOTTIME is not None else time.monotonic
        )
        """Seconds since some moment, never stepping; asleep or awake."""
        self.shift = 0
        """Microseconds that the shared tier's clock is ahead of this host's."""
        self.doubt = 0
        """Microseconds by which `shift` may be wrong."""
        self._last = 0
        self._end = 0.0

    @property
    def last(self) -> int:
        """The last stamp given or seen."""
        return self._last

    def micros(self) -> int:
        """Return the wall time in microseconds: what `fresh_until` is compared with."""
        wall = self.wall
        return int(wall() * 1e6) + self.shift

    def end(self, ttl: float) -> float:
        """Return when *ttl* seconds are over, in seconds of `monotonic`; up to 1 ms and 0.1 % earlier.

        What is stored within a millisecond, to live as long, shares one float: 32 bytes less an entry, and
        one look into memory less at a near hit, a fifth of it among 10,000 entries.
        """
        # Fetched first, then called: Python 3.11 calls what a slot holds the long way.
        monotonic = self.monotonic
        end = monotonic() + ttl
        last = self._end
        if last <= end <= last + _GRAIN and ttl >= 1.0:
            return last
        self._end = end
        return end

    def stamp(self) -> int:
        """Return a new stamp, greater than all that were given or seen."""
        wall = self.wall
        now = int(wall() * 1e6) + self.shift
        # The interpreter changes threads where something is called, and here nothing is, so no two get the
        # same. A lock in its place would make it three times as long, 240 ns of each set.
        self._last = stamp = now if now > self._last else self._last + 1
        return stamp

    def final(self) -> int:
        """Return a new stamp for what ends all that others began before: later by `doubt`."""
        later = self.doubt + 1 if self.doubt else 0
        wall = self.wall
        now = int(wall() * 1e6) + self.shift + later
        # Without a call, as in `stamp`.
        self._last = stamp = now if now > self._last else self._last + 1
        return stamp

    def early(self) -> int:
        """Return a stamp for what all end that others do from now on: earlier by `doubt`.

        It may equal others, and lie before some that were given: what it dates wins over nothing.
        """
        if not self.doubt:
            return self.stamp()
        return min(self.micros(), self.stamp()) - self.doubt

    def ahead(self, stamp: int) -> float:
        """Return for how many seconds others may still date what they begin at or before *stamp*; 0 for none.

        One that lies farther ahead than anybody's doubt may reach is of a clock that is wrong; no wait would
        mend that. Whose doubt it was can't be told: who has seen a stamp dates his own after it.
        """
        ahead = stamp + self.doubt - self.micros()
        return ahead / 1_000_000 if 0 < ahead <= _BELIEVED else 0.0

    def observe(self, stamp: int) -> None:
        """Raise the clock so that later stamps are above *stamp*.

        A stamp more than a day ahead is somebody's mistake; following it would date all that is written
        here into the future, so it is passed over.
        """
        if stamp <= self._last:
            return
        latest = self.micros() + _FUTURE
        # Without a call, as in `stamp`.
        self._last = stamp if self._last < stamp < latest else self._last


class Ticking(Protocol):
    """What a ticker keeps up to date."""

    now: float


class Ticker:
    """Keeps `owner.now` within a few milliseconds of the clock while reads happen, and parks when none do.

    A near hit compares `owner.now` with the entry's `fresh_until` and so needs no clock call, which would
    cost as much as the look-up. A thread does it and not a loop timer: a task whose awaits are all near
    hits never gives the loop back, and then a timer would freeze the very float that expires its reads.

    Parked, `owner.now` is infinite: every hit takes the slow path, which reads the real clock and calls
    `wake`. The same infinity, held by `shut`, is how anything else sends hits to the slow path.
    """

    PERIOD: Final = 0.004
    PARK_AFTER: Final = 0.5

    __slots__ = (
        "__weakref__", "_clock", "_owner", "_shut", "_starting", "_stopped", "_thread", "_wanted", "until",
    )  # fmt: skip

    def __init__(self, owner: Ticking, clock: Clock) -> None:
        self._owner: weakref.ref[Any] = weakref.ref(owner)
        self._clock = clock
        self._wanted = threading.Event()
        self._shut = 0
        self._starting = threading.Lock()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self.until = float("inf")
        """Seconds of the clock after which every hit takes the slow path, until this is raised."""
        owner.now = float("inf")
        _TICKERS.add(self)

    def wake(self) -> None:
        """Start refreshing (called by the slow path, which has just judged by the real clock)."""
        if self._shut or self._stopped:
            return
        owner = self._owner()
        if owner is None:
            return
        if self._thread is None:
            self._start()
        # `now` first, then the event: the other order could leave the thread asleep on a finite `now`,
        # and entries would never expire.
        owner.now = self._coarse()
        self._wanted.set()
        if self._shut:
            owner.now = float("inf")

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(
                    target=_tick, args=(weakref.ref(self),), name="tiercache-clock", daemon=True
                )
                thread.start()
                self._thread = thread

    def _coarse(self) -> float:
        now = self._clock.monotonic()
        return now if now < self.until else float("inf")

    def shut(self) -> None:
        """Send every hit to the slow path until `open` was called as often."""
        self._shut += 1
        if (owner := self._owner()) is not None:
            owner.now = float("inf")

    def open(self) -> None:
        """Undo one `shut`. The next hit on the slow path wakes the thread."""
        self._shut -= 1

    def stop(self) -> None:
        """Park for good."""
        self._stopped = True
        if (owner := self._owner()) is not None:
            owner.now = float("inf")
        self._wanted.set()

    def _forked(self) -> None:
        # The child has the float but not the thread.
        self._thread = None
        self._starting = threading.Lock()
        self._wanted = threading.Event()
        if (owner := self._owner()) is not None:
            owner.now = float("inf")


def _tick(ticker: weakref.ref[Ticker]) -> None:
    """Body of the thread. It holds no strong reference while it sleeps, so a dropped cache ends it."""
    ticks = int(Ticker.PARK_AFTER / Ticker.PERIOD)
    while (self := ticker()) is not None and not self._stopped:
        wanted = self._wanted
        del self
        if not wanted.wait(1.0):
            continue
        for _ in range(ticks):
            time.sleep(Ticker.PERIOD)
            self = ticker()
            owner = self._owner() if self is not None else None
            if self is None or owner is None or self._stopped:
                return
            if self._shut:
                break
            owner.now = self._coarse()
            if self._shut or self._stopped:
                # Shut between the look and the write: take the write back.
                owner.now = float("inf")
                break
            del self, owner
        wanted.clear()
        self = ticker()
        if self is not None and (owner := self._owner()) is not None:
            owner.now = float("inf")
            del owner


_TICKERS: weakref.WeakSet[Ticker] = weakref.WeakSet()


def _after_fork() -> None:
    for ticker in list(_TICKERS):
        ticker._forked()  # noqa: SLF001 - the fork hook is part of the ticker


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
