"""The reads of a far tier."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from tiercache.clock import Clock
from tiercache.engine.guard import FRAMES, Guard, answers
from tiercache.engine.recovery import Recovery
from tiercache.engine.tasks import Woken, begin, wake

if TYPE_CHECKING:
    from tiercache.engine.batching.writes import Writes
    from tiercache.engine.coherence import Coherence

MOST_KEYS: Final = 512
"""Keys that one call may carry."""


class Arrival:
    """What came together from a far tier: what is asked of clocks and leases once for all of it."""

    __slots__ = ("monotonic", "now", "trusted", "woken")

    def __init__(self, clock: Clock) -> None:
        self.now = clock.micros()
        """The wall time in microseconds."""
        self.monotonic = clock.monotonic()
        """The same moment, for what stays in this process."""
        self.trusted: Coherence | None = None
        """Whose lease was found to live; None: nobody has asked yet, or none does."""
        self.woken: Woken = []
        """Who waited for it, and has yet to be told."""


class Landing(Protocol):
    """Somebody who waits for a far read."""

    @property
    def origin(self) -> Any:
        """The span that the read belongs to; None where there is none."""
        ...

    def land(self, frame: bytes | None, arrival: Arrival, *, failed: bool) -> None:
        """Take the frame, or None: a miss, or a tier that *failed*. Must not raise."""
        ...

    @staticmethod
    def land_all(landings: Sequence[Any], frames: Sequence[bytes | None], arrival: Arrival) -> None:
        """Let each of *landings*, all of this type, take its frame. Must not raise."""
        ...


class Reads:
    """The reads of one far tier, one batch in flight at a time."""

    __slots__ = (
        "_act", "_batch", "_clock", "_guard", "_recovery", "_task", "_turn", "_waiting", "_writes", "busy",
    )  # fmt: skip

    def __init__(
        self,
        guard: Guard,
        recovery: Recovery,
        writes: Writes,
        clock: Clock,
        act: Callable[[Sequence[str]], Awaitable[Sequence[bytes | None]]] | None = None,
    ) -> None:
        self._act = act
        self._clock = clock
        self._guard = guard
        self._recovery = recovery
        self._writes = writes
        self._waiting: dict[str, Landing] = {}
        self._batch: dict[str, Landing] = {}
        self._task: asyncio.Task[None] | None = None
        self.busy = False
        """Whether something is in flight."""
        self._turn = 0
        """Number of the task; what has an earlier one was given up. To ask asyncio which task runs takes a
        system call on Python 3.11.
        """

    def submit(self, address: str, landing: Landing) -> None:
        """Read *address* and hand the frame to *landing*, never before this returns."""
        recovery = self._recovery
        if self._guard.barred() or (recovery.any and recovery.hides(address)):
            asyncio.get_running_loop().call_soon(self._missed, landing)
            return
        waiting = self._waiting
        if address in waiting:
            waiting[address] = both(waiting[address], landing)
            return
        waiting[address] = landing
        if not self.busy:
            self._start()

    def _start(self) -> None:
        """Begin to read what waits, where nothing is under way."""
        self._turn += 1
        self.busy = True
        self._task = begin(self._run(self._turn), "tiercache-reads")

    def together(self) -> None:
        """Know that more than one is about to be submitted."""

    def _missed(self, landing: Landing) -> None:
        arrival = Arrival(self._clock)
        landing.land(None, arrival, failed=True)
        wake(arrival.woken)

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        while (task := self._task) is not None:
            await asyncio.wait([task])

    def end(self) -> None:
        """Give up what is in flight: misses."""
        task = self._task
        self._give_up()
        if task is not None:
            task.cancel()

    async def _run(self, turn: int) -> None:
        try:
            while self._waiting:
                batch = self._batch = self._take()
                keys = list(batch)
                timeouts = self._guard.timeouts
                if (watch := self._guard.watch) is not None:
                    watch.carry([landing.origin for waiting in batch.values() for landing in _each(waiting)])
                act = self._act or self._guard.tier.read
                frames = await self._guard.call(answers, act, keys, FRAMES, given_up=self._give_up)
                if self._turn != turn:
                    return
                wake(self._land(frames))
                if frames is None and self._guard.timeouts != timeouts:
                    self._despair()
                elif not self._waiting:
                    # Who was woken may ask for more in this turn: without another task, and a turn sooner.
                    await asyncio.sleep(0)
                    if self._turn != turn:
                        return
        finally:
            if self._turn == turn:
                self._give_up()

    def _despair(self) -> None:
        """Let all miss who wait behind a call that hung: they have waited long enough, too."""
        self._batch, self._waiting = self._waiting, {}
        wake(self._land(None))

    def _land(self, frames: list[bytes | None] | None) -> Woken:
        """Hand out what came; return who is to be woken."""
        batch, self._batch = self._batch, {}
        arrival = Arrival(self._clock)
        if frames is None:
            for landing in batch.values():
                landing.land(None, arrival, failed=True)
            return arrival.woken
        counts, recovery = self._guard.counts, self._recovery
        if recovery.any:
            for (address, landing), frame in zip(batch.items(), frames, strict=True):
                # Hidden: a write that was acknowledged meanwhile has not reached the tier.
                hidden = recovery.hides(address)
                if frame is not None and not hidden:
                    counts.bytes_read += len(frame)
                landing.land(None if hidden else frame, arrival, failed=hidden)
            self._writes.replay()
            return arrival.woken
        counts.bytes_read += sum(map(len, filter(None, frames)))
        landings = [*batch.values()]
        if len(set(map(type, landings))) == 1:
            landings[0].land_all(landings, frames, arrival)
            return arrival.woken
        for landing, frame in zip(landings, frames, strict=True):
            landing.land(frame, arrival, failed=False)
        return arrival.woken

    def _give_up(self) -> None:
        """Leave the task to itself; whoever waits has missed."""
        self._task = None
        self.busy = False
        self._turn += 1
        woken: Woken = []
        while self._batch or self._waiting:
            woken += self._land(None)
            self._batch, self._waiting = self._waiting, {}
        wake(woken)

    def _take(self) -> dict[str, Landing]:
        if len(self._waiting) <= MOST_KEYS:
            batch, self._waiting = self._waiting, {}
            return batch
        return {key: self._waiting.pop(key) for key in list(self._waiting)[:MOST_KEYS]}


class _Several:
    """Those who wait for one address: flights of different routes."""

    __slots__ = ("landings",)

    def __init__(self, *landings: Landing) -> None:
        self.landings = [one for landing in landings for one in _each(landing)]

    @property
    def origin(self) -> Any:
        """That of the first; who asks for all takes them apart."""
        return self.landings[0].origin

    def land(self, frame: bytes | None, arrival: Arrival, *, failed: bool) -> None:
        """Hand it to each."""
        for landing in self.landings:
            landing.land(frame, arrival, failed=failed)

    @staticmethod
    def land_all(landings: Sequence[_Several], frames: Sequence[bytes | None], arrival: Arrival) -> None:
        """Hand each its own."""
        for landing, frame in zip(landings, frames, strict=True):
            landing.land(frame, arrival, failed=False)


def both(first: Landing, second: Landing) -> Landing:
    """Return one that stands for both."""
    return _Several(first, second)


def _each(landing: Landing) -> Sequence[Landing]:
    return landing.landings if isinstance(landing, _Several) else (landing,)


async def quiet(lanes: Sequence[Reads]) -> None:
    """Wait until nothing is in flight in any of *lanes*: what one does not find, another is asked for."""
    await asyncio.sleep(0)
    while any(lane.busy for lane in lanes):
        await asyncio.gather(*(lane.idle() for lane in lanes))
        # A tier that is away answers in the loop's next turn.
        await asyncio.sleep(0)
