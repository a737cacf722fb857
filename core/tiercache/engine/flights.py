"""One flight a key: the far read or the load that is under way, and everybody who waits for it.

Two kinds, and a read-only probe never joins a load: somebody who only asks what is cached must not wait
for, or be given, what is being computed. A write or an invalidation of the key detaches its flights: those
who wait get the result, nobody joins any more, and it is stored nowhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from tiercache.engine.tasks import begin, settle
from tiercache.entry import MISSING, Missing

if TYPE_CHECKING:
    from tiercache.engine.batching import Arrival, Writes
    from tiercache.engine.loads import Load
    from tiercache.engine.pipeline import Route

log = logging.getLogger("tiercache.engine")


class Found(NamedTuple):
    """An entry on its way to whoever asked. Times are stamps: microseconds of wall time."""

    value: Any
    created_at: int
    fresh_until: int
    stale_until: int
    tags: tuple[str, ...]
    end: int = 0
    """Where reads lengthen the life, the time beyond which they don't."""


class Closing:
    """Keys that are being dropped from far tiers right now.

    A read that begins meanwhile may still find the old value in a farther tier, and copy it into a nearer
    one that has already dropped it. So what is read of these keys is stored nowhere.
    """

    __slots__ = ("_keys", "_whole", "held")

    def __init__(self) -> None:
        self._keys: dict[str, int] = {}
        self._whole = 0
        self.held = 0
        """How much is held closed; with nothing, no key need be asked for."""

    def __contains__(self, key: str) -> bool:
        return self._whole > 0 or key in self._keys

    def close(self, key: str) -> None:
        """Hold *key* closed until `reopen` was called as often."""
        self.held += 1
        self._keys[key] = self._keys.get(key, 0) + 1

    def reopen(self, key: str) -> None:
        """Undo one `close` of *key*."""
        self.held -= 1
        left = self._keys.pop(key) - 1
        if left:
            self._keys[key] = left

    @contextmanager
    def keys(self, keys: Iterable[str]) -> Iterator[None]:
        """Hold *keys* closed."""
        keys = tuple(keys)
        for key in keys:
            self.close(key)
        try:
            yield
        finally:
            for key in keys:
                self.reopen(key)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Hold every key closed."""
        self._whole += 1
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1
            self._whole -= 1


class Flights:
    """The flights of one route."""

    __slots__ = ("closing", "loads", "loop", "probes", "running")

    def __init__(self) -> None:
        self.closing = Closing()
        """Shared by all routes of a cache."""
        self.loop: asyncio.AbstractEventLoop | None = None
        """That of the cache, while it is open. To ask for the running one is a system call on Python 3.11."""
        self.probes: dict[str, Probe] = {}
        self.loads: dict[str, Load] = {}
        self.running: set[asyncio.Task[None]] = set()
        """Tasks of loads, detached ones too: what is not referred to, asyncio may drop."""

    def detach(self, key: str) -> None:
        """Let nobody join the flights of *key* any more, nor their results be stored."""
        if (probe := self.probes.pop(key, None)) is not None:
            probe.detached = True
        if (load := self.loads.pop(key, None)) is not None:
            load.detached = True

    def hold(
        self, key: str, lanes: Sequence[Writes], after: Callable[[], Coroutine[Any, Any, None] | None]
    ) -> None:
        """Keep *key* closed until nothing is in flight in *lanes*, whoever has left; then do *after*."""
        closed = ExitStack()
        closed.enter_context(self.closing.keys((key,)))

        async def held() -> None:
            with closed:
                for lane in lanes:
                    await lane.idle()
                if (rest := after()) is not None:
                    await rest

        task = begin(held(), "tiercache-closing")
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    def detach_all(self) -> None:
        """Detach every flight."""
        for key in [*self.probes, *self.loads]:
            self.detach(key)


class Probe:
    """A read through the far tiers of a route, tier by tier. It needs no task: each lane hands it on."""

    __slots__ = ("address", "began", "buried", "detached", "failures", "key", "level", "loads", "origin",
                 "reading", "route", "stale", "waiters")  # fmt: skip

    def __init__(self, route: Route, key: str) -> None:
        self.route = route
        self.key = key
        self.address = route.prefix + key
        self.level = 0
        coherence = route.coherence
        self.began = 0.0 if coherence is None or route.near is None else coherence.seconds()
        """When it began, in the seconds of `Coherence.now`."""
        self.buried = 0
        """The latest tombstone met: older entries of farther tiers are dead."""
        closing = route.flights.closing
        self.detached = closing.held > 0 and key in closing
        self.origin = None if route.watch is None else route.watch.origin()
        """The span that this read belongs to."""
        self.failures = 0
        """Tiers that could not answer."""
        self.reading = False
        """Whether somebody reads, and does not only look."""
        self.stale: Found | Missing = MISSING
        """The newest stale copy met."""
        self.waiters: list[asyncio.Future[Found | Missing]] = []
        self.loads: Sequence[Load] = ()

    def join(self) -> asyncio.Future[Found | Missing]:
        """Return a future of this caller's own: cancelling it hurts nobody else."""
        waiter: asyncio.Future[Found | Missing] = asyncio.Future(loop=self.route.flights.loop)
        self.waiters.append(waiter)
        return waiter

    def tell(self, load: Load) -> None:
        """Let *load* hear of what is found."""
        self.loads = (*self.loads, load)

    @staticmethod
    def land_all(landings: Sequence[Probe], frames: Sequence[bytes | None], arrival: Arrival) -> None:
        """Let each of *landings* take its frame: together what can be judged together."""
        landings[0].route.judge_all(landings, frames, arrival)

    def land(self, frame: bytes | None, arrival: Arrival, *, failed: bool) -> None:
        """Judge what the tier at this level has; go on to the next one, or finish."""
        route = self.route
        self.failures += failed
        try:
            found = MISSING if failed else route.judge(self, frame, arrival)
            if found is not MISSING and route.near is not None and not self.detached:
                route.keeping.keep(self.key, found, self.began, arrival)
        except Exception:
            log.exception("a far read ended in an error of tiercache or of a plugin; taken as a miss")
            found = MISSING
        route.counts.landed(self.key, self.level, hit=found is not MISSING, failed=failed)
        self.level += 1
        if found is MISSING and self.level < len(route.fars):
            route.fars[self.level].reads.submit(self.address, self)
            return
        self.finish(found, arrival)

    def finish(self, found: Found | Missing, arrival: Arrival) -> None:
        """Give everybody who waits what was *found* in *arrival*."""
        probes = self.route.flights.probes
        if probes.get(self.key) is self:
            del probes[self.key]
        settle(self.waiters, found, arrival.woken)
        for load in self.loads:
            load.probed(found, self.stale)
