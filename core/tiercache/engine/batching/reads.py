"""The reads of a far tier."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from tiercache.clock import Clock
from tiercache.engine.guard import FRAMES, Guard, answers
from tiercache.engine.recovery import Recovery

if TYPE_CHECKING:
    from tiercache.engine.batching.writes import Writes
    from tiercache.engine.coherence import Coherence

MOST_KEYS: Final = 512
"""Keys that one call may carry."""


class Arrival:
    """What came together from a far tier: what is asked of clocks and leases once for all of it."""

    __slots__ = ("monotonic", "now", "trusted")

    def __init__(self, clock: Clock) -> None:
        self.now = clock.micros()
        """The wall time in microseconds."""
        self.monotonic = clock.monotonic()
        """The same moment, for what stays in this process."""
        self.trusted: Coherence | None = None
        """Whose lease was found to live; None: nobody has asked yet, or none does."""


class Landing(Protocol):
    """Somebody who waits for a far read."""

    @property
    def origin(self) -> Any:
        """The span that the read belongs to; None where there is none."""
        ...

    def land(self, frame: bytes | None, arrival: Arrival, *, failed: bool) -> None:
        """Take the frame, or None: a miss, or a tier that *failed*. Must not raise."""
        ...


class Reads:
    """The reads of one far tier, one batch in flight at a time."""

    __slots__ = ("_act", "_batch", "_clock", "_guard", "_recovery", "_task", "_waiting", "_writes")

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
        self._waiting: dict[str, list[Landing]] = {}
        self._batch: dict[str, list[Landing]] = {}
        self._task: asyncio.Task[None] | None = None

    def submit(self, address: str, landing: Landing) -> None:
        """Read *address* and hand the frame to *landing*, never before this returns."""
        if self._guard.barred() or self._recovery.hides(address):
            asyncio.get_running_loop().call_soon(self._missed, landing)
            return
        waiting = self._waiting.get(address)
        if waiting is not None:
            waiting.append(landing)
            return
        self._waiting[address] = [landing]
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="tiercache-reads")

    def _missed(self, landing: Landing) -> None:
        landing.land(None, Arrival(self._clock), failed=True)

    @property
    def busy(self) -> bool:
        """Whether something is in flight."""
        return self._task is not None

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

    async def _run(self) -> None:
        me = asyncio.current_task()
        try:
            while self._waiting:
                batch = self._batch = self._take()
                keys = list(batch)
                timeouts = self._guard.timeouts
                if (watch := self._guard.watch) is not None:
                    watch.carry([landing.origin for waiting in batch.values() for landing in waiting])
                act = self._act or self._guard.tier.read
                frames = await self._guard.call(answers, act, keys, FRAMES, given_up=self._give_up)
                if self._task is not me:
                    return
                self._land(frames)
                if frames is not None:
                    self._writes.replay()
                elif self._guard.timeouts != timeouts:
                    # It hangs. Whoever waits behind has waited long enough, too.
                    self._batch, self._waiting = self._waiting, {}
                    self._land(None)
        finally:
            if self._task is me:
                self._give_up()

    def _land(self, frames: list[bytes | None] | None) -> None:
        batch, self._batch = self._batch, {}
        arrival = Arrival(self._clock)
        if frames is None:
            for landings in batch.values():
                for landing in landings:
                    landing.land(None, arrival, failed=True)
            return
        hides = self._recovery.hides if len(self._recovery) else None
        total = 0
        for (address, landings), frame in zip(batch.items(), frames, strict=True):
            # Hidden: a write that was acknowledged meanwhile has not reached the tier.
            failed = hides is not None and hides(address)
            if frame is not None and not failed:
                total += len(frame)
            for landing in landings:
                landing.land(None if failed else frame, arrival, failed=failed)
        self._guard.counts.bytes_read += total

    def _give_up(self) -> None:
        """Leave the task to itself; whoever waits has missed."""
        self._task = None
        while self._batch or self._waiting:
            self._land(None)
            self._batch, self._waiting = self._waiting, {}

    def _take(self) -> dict[str, list[Landing]]:
        if len(self._waiting) <= MOST_KEYS:
            batch, self._waiting = self._waiting, {}
            return batch
        return {key: self._waiting.pop(key) for key in list(self._waiting)[:MOST_KEYS]}


async def quiet(lanes: Sequence[Reads]) -> None:
    """Wait until nothing is in flight in any of *lanes*: what one does not find, another is asked for."""
    await asyncio.sleep(0)
    while any(lane.busy for lane in lanes):
        await asyncio.gather(*(lane.idle() for lane in lanes))
        # A tier that is away answers in the loop's next turn.
        await asyncio.sleep(0)
