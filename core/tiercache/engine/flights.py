"""One flight a key: the far read or the load that is under way, and everybody who waits for it.

Two kinds, and a read-only probe never joins a load: somebody who only asks what is cached must not wait
for, or be given, what is being computed. A write or an invalidation of the key detaches its flights: those
who wait get the result, nobody joins any more, and it is stored nowhere.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from tiercache.contracts import Life
from tiercache.entry import MISSING, Missing
from tiercache.errors import LoadCancelled, LoadCycle, LoadError

if TYPE_CHECKING:
    from tiercache.engine.pipeline import Route

log = logging.getLogger("tiercache.engine")

_LOADING: contextvars.ContextVar[tuple[tuple[int, str, str], ...]] = contextvars.ContextVar(
    "tiercache_loading", default=()
)


class Found(NamedTuple):
    """An entry on its way to whoever asked. Times are stamps: microseconds of wall time."""

    value: Any
    created_at: int
    fresh_until: int
    stale_until: int
    tags: tuple[str, ...]


class Closing:
    """Keys that are being dropped from far tiers right now.

    A read that begins meanwhile may still find the old value in a farther tier, and copy it into a nearer
    one that has already dropped it. So what is read of these keys is stored nowhere.
    """

    __slots__ = ("_keys", "_whole")

    def __init__(self) -> None:
        self._keys: Counter[str] = Counter()
        self._whole = 0

    def __contains__(self, key: str) -> bool:
        return self._whole > 0 or key in self._keys

    @contextmanager
    def keys(self, keys: Iterable[str]) -> Iterator[None]:
        """Hold *keys* closed."""
        keys = tuple(keys)
        self._keys.update(keys)
        try:
            yield
        finally:
            for key in keys:
                self._keys[key] -= 1
                if not self._keys[key]:
                    del self._keys[key]

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Hold every key closed."""
        self._whole += 1
        try:
            yield
        finally:
            self._whole -= 1


class Flights:
    """The flights of one route."""

    __slots__ = ("closing", "loads", "probes")

    def __init__(self) -> None:
        self.closing = Closing()
        """Shared by all routes of a cache."""
        self.probes: dict[str, Probe] = {}
        self.loads: dict[str, Load] = {}

    def detach(self, key: str) -> None:
        """Let nobody join the flights of *key* any more, nor their results be stored."""
        if (probe := self.probes.pop(key, None)) is not None:
            probe.detached = True
        if (load := self.loads.pop(key, None)) is not None:
            load.detached = True

    def detach_all(self) -> None:
        """Detach every flight."""
        for key in [*self.probes, *self.loads]:
            self.detach(key)


class Probe:
    """A read through the far tiers of a route, tier by tier. It needs no task: each lane hands it on."""

    __slots__ = ("address", "buried", "detached", "key", "level", "loads", "route", "waiters")

    def __init__(self, route: Route, key: str) -> None:
        self.route = route
        self.key = key
        self.address = route.address(key)
        self.level = 0
        self.buried = 0
        """The latest tombstone met: older entries of farther tiers are dead."""
        self.detached = False
        self.waiters: list[asyncio.Future[Found | Missing]] = []
        self.loads: list[Load] = []

    def start(self) -> None:
        """Ask the first far tier."""
        self.detached = self.key in self.route.flights.closing
        self.route.flights.probes[self.key] = self
        self.route.fars[0].reads.submit(self.address, self)

    def join(self) -> asyncio.Future[Found | Missing]:
        """Return a future of this caller's own: cancelling it hurts nobody else."""
        waiter: asyncio.Future[Found | Missing] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        return waiter

    def land(self, frame: bytes | None, *, failed: bool) -> None:
        """Judge what the tier at this level has; go on to the next one, or finish."""
        try:
            found = MISSING if failed else self.route.judge(self, frame)
            if found is not MISSING:
                self.route.arrived(self, found)
        except Exception:
            log.exception("a far read ended in an error of tiercache or of a plugin; taken as a miss")
            found = MISSING
        self.level += 1
        if found is MISSING and self.level < len(self.route.fars):
            self.route.fars[self.level].reads.submit(self.address, self)
            return
        if self.route.flights.probes.get(self.key) is self:
            del self.route.flights.probes[self.key]
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(found)
        for load in self.loads:
            load.probed(found)


class Load:
    """One call of a loader, and all who wait for it.

    It runs in a task of its own, so that no caller's cancellation reaches it but the last one's, in a copy
    of the context of the caller who came first.
    """

    __slots__ = (
        "_abandoned", "_context", "_loader", "_task", "_waiters", "detached", "key", "landed", "life",
        "loading", "route",
    )  # fmt: skip

    def __init__(self, route: Route, key: str, loader: Callable[[], Any], life: Life) -> None:
        self.route = route
        self.key = key
        self.life = life
        self.detached = False
        self.landed: Any | Missing = MISSING
        """The value, once the loader has brought it."""
        self.loading = False
        """Whether the far tiers had nothing, so that the loader was called."""
        self._loader = loader
        self._task: asyncio.Task[None] | None = None
        self._waiters: set[asyncio.Future[Any]] = set()
        self._abandoned = False
        self._context = contextvars.copy_context()

    def start(self) -> None:
        """Look into the far tiers first, then load."""
        self.route.flights.loads[self.key] = self
        if not self.route.fars:
            self.probed(MISSING)
            return
        self.route.probe(self.key).loads.append(self)

    async def wait(self) -> Any:
        """Return the value, or raise the loader's error. The load is cancelled when the last one leaves.

        Raises LoadCycle where the caller is itself part of the load.
        """
        if self.landed is not MISSING:
            return self.landed
        mark = (id(self.route.flights), self.route.name, self.key)
        if mark in _LOADING.get():
            chain = " → ".join(repr(key) for _, _, key in (*_LOADING.get(), mark))
            raise LoadCycle(f"loading a key asked for the key itself: {chain}")
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            return await waiter
        finally:
            self._waiters.discard(waiter)
            if waiter.done() and not waiter.cancelled():
                # Cancelled in the very moment of an error: it was delivered, and must not be called lost.
                waiter.exception()
            elif not self._waiters:
                self._abandon()

    def probed(self, found: Found | Missing) -> None:
        """Go on after the far tiers were asked."""
        if found is not MISSING:
            self._leave()
            self._resolve(found.value)
        elif not self._abandoned:
            self._task = asyncio.get_running_loop().create_task(
                self._run(), context=self._context, name="tiercache-load"
            )

    async def _run(self) -> None:
        self.loading = True
        _LOADING.set((*_LOADING.get(), (id(self.route.flights), self.route.name, self.key)))
        began = self.route.clock.stamp()
        counts = self.route.counts
        counts.loads += 1
        started = time.perf_counter()
        try:
            value = await self.route.load(self.key, self._loader)
        except asyncio.CancelledError:
            counts.load_errors += not self._abandoned
            self._fail(LoadCancelled(f"the load of {self.key!r} was cancelled from inside"))
            raise
        except Exception as error:  # noqa: BLE001 - the loader is the application's; its error goes to the callers
            counts.load_errors += 1
            self._fail(error)
            return
        finally:
            counts.load_seconds += time.perf_counter() - started
        try:
            writes = self.route.loaded(self, value, began)
        except Exception as error:  # noqa: BLE001 - the value can't be stored; the callers must know
            self._fail(error)
            return
        self.landed = value
        self._resolve(value)
        if writes and self.route.near is None and not self.detached:
            # Without a near tier the value is nowhere until the far writes end; whoever comes now joins.
            await asyncio.wait(writes)
        self._leave()

    def _abandon(self) -> None:
        if self.landed is not MISSING:
            return
        self._abandoned = True
        self._leave()
        if self._task is not None:
            self._task.cancel()

    def _leave(self) -> None:
        if self.route.flights.loads.get(self.key) is self:
            del self.route.flights.loads[self.key]

    def _resolve(self, value: Any) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(value)

    def _fail(self, error: Exception) -> None:
        self._leave()
        if isinstance(error, StopIteration):
            # A future refuses it, and in a coroutine it would end somebody's loop in silence.
            wrapped = LoadError(f"the loader of {self.key!r} raised StopIteration")
            wrapped.__cause__ = error
            error = wrapped
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)


async def load(key: str, loader: Callable[[], Any]) -> Any:
    """Return what *loader* brings, awaiting it where that is awaitable; *key* is for patterns around it."""
    del key
    result = loader()
    return await result if inspect.isawaitable(result) else result
