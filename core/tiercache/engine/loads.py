"""One call of a loader, and all who wait for it."""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tiercache.contracts import Life
from tiercache.engine.calling import takes_context
from tiercache.engine.flights import Found
from tiercache.engine.loaded import LoadContext
from tiercache.engine.tasks import begin
from tiercache.engine.tracing import detached
from tiercache.engine.waits import Place
from tiercache.entry import MISSING, Missing
from tiercache.errors import LoadCancelled, LoadCycle, LoadError, LoadTimeout

if TYPE_CHECKING:
    from tiercache.engine.locks.leases import Lease
    from tiercache.engine.pipeline import Route
    from tiercache.engine.telemetry import LoadCall


class Load:
    """A load, from the look into the far tiers until its result has reached everybody.

    It runs in a task of its own, so that no caller's cancellation reaches it but the last one's, in a copy
    of the context of the caller who came first, without that caller's span. Once callers have been given
    something else, as it took too long, or where it only refreshes what is fresh, it goes on without any.
    """

    __slots__ = (
        "_abandoned", "_background", "_context", "_ended", "_error", "_late", "_loader", "_refreshes",
        "_soft_at", "_stale", "_standin", "_task", "_waiters", "began", "detached", "key", "killed", "landed",
        "lease", "life", "links", "loading", "looks", "place", "route", "since",
    )  # fmt: skip

    def __init__(
        self, route: Route, key: str, loader: Callable[..., Any], life: Life, *, refreshes: int | None = None
    ) -> None:
        self.route = route
        self.key = key
        self.life = life
        self.detached = False
        self.killed = 0
        """Stamp of the marker that killed what it brought, which is stored nowhere."""
        self.began = 0
        """Stamp of its beginning, or of that of the call that loads its key with others; 0 before it."""
        self.landed: Any | Missing = MISSING
        """The value, once the loader has brought it."""
        self.loading = False
        """Whether the far tiers had nothing, so that the loader was called."""
        self.since = 0.0
        """When that was, in the seconds of `Coherence.now`."""
        self.lease: Lease | None = None
        """What lets it load while other processes wait."""
        self.looks = True
        """Whether what is cached by now would do."""
        self._loader = loader
        self._refreshes = refreshes
        self._background = refreshes is not None
        self._stale: Found | Missing = MISSING
        self._standin: Any | Missing = MISSING
        self._soft_at: float | None = None
        self._late: list[asyncio.TimerHandle] = []
        self._task: asyncio.Task[None] | None = None
        self._waiters: dict[asyncio.Future[Any], None] = {}
        """Who came first is told first."""
        self._abandoned = False
        self._ended = False
        self._error: Exception | None = None
        self._context = contextvars.copy_context()
        self.links = detached(self._context)
        """To the span of the caller who came first, for one that stands for this load."""
        self.place = Place(key, route)
        """Among the loads that wait for each other."""

    def start(self, *, look: bool = True) -> None:
        """Load; before that, where *look*, see whether the far tiers have it."""
        self.looks = look
        self.route.flights.loads[self.key] = self
        self._stale = self.route.keeping.stale_copy(self.key)
        self._limit()
        if look and self.route.fars:
            self.route.probe(self.key).tell(self)
        else:
            self.probed(MISSING, MISSING)

    async def wait(self) -> Any:
        """Return the value, or raise the loader's error. The load is cancelled when the last one leaves.

        Raises LoadCycle where the load itself waits for the caller, LoadTimeout where it takes too long.
        """
        waiter = self.join()
        try:
            return await waiter
        finally:
            self.leave(waiter)

    def join(self) -> asyncio.Future[Any]:
        """Return a future of this caller's own. Who joins must `leave`. Raises LoadCycle as `wait` does."""
        # What the loop would make, in half the time.
        waiter: asyncio.Future[Any] = asyncio.Future(loop=self.route.flights.loop)
        if self._error is not None:
            waiter.set_exception(self._error)
        elif self._ended or self.landed is not MISSING:
            waiter.set_result(self.landed)
        elif self._standin is not MISSING and self._usable() is not None:
            waiter.set_result(self._standin)
        else:
            self._waiters[waiter] = None
            try:
                self.place.awaited(waiter)
            except LoadCycle:
                self.leave(waiter)
                raise
            if self._background and self.route.rules.hard_timeout is not None:
                # Late-comers have the same patience as those whose time is over.
                self._late.append(waiter.get_loop().call_later(self.route.rules.hard_timeout, self._give_up))
        return waiter

    def outdated(self, since: int) -> bool:
        """Whether what it brought may have been invalidated by a marker not newer than *since*.

        Of several markers of one name only the last is known, and it may be of later.
        """
        return self.killed > 0 and since > self.began

    def leave(self, waiter: asyncio.Future[Any]) -> None:
        """Count a caller out; the last one takes the load along."""
        self._waiters.pop(waiter, None)
        self.place.left(waiter)
        if not waiter.cancel() and not waiter.cancelled():
            # Cancelled in the very moment of an error: it was delivered, and must not be called lost.
            waiter.exception()
        elif not self._waiters and not self._background:
            self._abandon()

    def probed(self, found: Found | Missing, stale: Found | Missing) -> None:
        """Go on after the far tiers were asked; *stale* is the newest stale copy among them."""
        if found is not MISSING and not self.tired(found):
            self.answer(found.value)
            return
        if stale is not MISSING and (self._stale is MISSING or stale.created_at > self._stale.created_at):
            self._stale = stale
        if self._abandoned:
            return
        flights = self.route.flights
        loop = flights.loop or asyncio.get_running_loop()
        if self._soft_at is not None and loop.time() >= self._soft_at:
            # Time was over before the far tiers brought what stands in now.
            self._stand_in()
        turns = self.route.turns
        running = self.run() if turns is None else turns.run(self, nested=self.place.outer is not None)
        self._task = begin(running, "tiercache-load", loop=loop, context=self._context)
        flights.running.add(self._task)
        if turns is not None:
            self._task.add_done_callback(flights.running.discard)

    def _limit(self) -> None:
        """Limit how long callers wait. A far tier that is slow counts as much as a loader that is."""
        rules = self.route.rules
        loop = self.route.flights.loop or asyncio.get_running_loop()
        if rules.soft_timeout is not None:
            self._soft_at = loop.time() + rules.soft_timeout
            self._late.append(loop.call_at(self._soft_at, self._stand_in))
        if rules.hard_timeout is not None:
            self._late.append(loop.call_later(rules.hard_timeout, self._give_up))

    def answer(self, value: Any) -> None:
        """Give everybody *value*, which somebody else has loaded."""
        self.landed = value
        self._end()

    def renew(self) -> None:
        """Begin after the change that detached it: what was stale before stands in no more."""
        self.detached, self._stale = False, MISSING

    def kept(self) -> Found | None:
        """Return what was to be refreshed where it is still fresh, and leave it alone for a while."""
        if self._refreshes is None or self.detached or not self.route.keeping.postpone(self.key):
            return None
        return self._usable()

    def cancelled(self) -> None:
        """Take note that its task was cancelled."""
        if not self._ended:
            self._fail(LoadCancelled(f"the load of {self.key!r} was cancelled from inside"))

    def tired(self, found: Found) -> bool:
        """Whether *found* is what this load is to replace, or as old: then it is no answer."""
        return self._refreshes is not None and (found.created_at <= self._refreshes or self.route.due(found))

    async def run(self) -> None:
        """Call the loader, and hand out and store what it brings."""
        try:
            self.loading = True
            self.place.enter()
            if not self.began:
                self.since, self.began = self.route.moment(), self.route.clock.early()
            self.route.counts.loads += 1
            self.route.counts.patterns.of(self.key).loads += 1
            watch = self.route.watch
            if watch is None:
                writes = await self._bring(self.began)
            else:
                with watch.load(self.route.name, self.key, self.links, refresh=self._background) as call:
                    writes = await self._bring(self.began, call)
            if writes and (self.route.near is None or self.lease is not None) and not self.detached:
                # Without a near tier the value is nowhere until the far writes end; whoever comes now joins.
                # With a lease a write or an invalidation can still stop what is yet to be stored.
                # But no longer than it is fresh: the writes may take as long as a tier that hangs.
                ttl = self.life.ttl
                await asyncio.wait(writes, timeout=None if ttl == math.inf else ttl)
            self._leave()
        finally:
            # Not by a callback of the task, which costs the loop a tenth of a short load.
            if self._task is not None:
                self.route.flights.running.discard(self._task)

    async def _bring(self, began: int, call: LoadCall | None = None) -> Sequence[asyncio.Future[int | None]]:
        """Call the loader, give its value to those who wait, and return the far writes under way."""
        counts = self.route.counts
        started = time.perf_counter()
        try:
            value = await self.route.load(self.key, self._called())
        except asyncio.CancelledError:
            counts.load_errors += not self._abandoned
            self.cancelled()
            raise
        except Exception as error:  # noqa: BLE001 - the loader is the application's; its error goes to the callers
            counts.load_errors += 1
            if call is not None:
                call.failed(error)
            self._fail(error)
            return ()
        finally:
            counts.load_seconds += time.perf_counter() - started
        try:
            value, writes = self.route.loaded(self, value, began)
        except Exception as error:  # noqa: BLE001 - the value can't be stored; the callers must know
            if call is not None:
                call.failed(error)
            self._end(error)
            return ()
        self.landed = value
        self._ended = True
        self.place.end()
        self._resolve(value)
        return writes

    def _called(self) -> Callable[[], Any]:
        if not takes_context(self._loader):
            return self._loader
        usable = self._usable()
        stale = MISSING if usable is None else usable.value
        return lambda: self._loader(LoadContext(self.key, stale))

    def _stand_in(self) -> bool:
        """Give those who wait, and who come while the load goes on, the stale copy, if one may be served."""
        stale = self._usable()
        if stale is None:
            return False
        self._background = True
        self._standin = stale.value
        self.route.counts.stale_served += len(self._waiters)
        self._resolve(stale.value)
        return True

    def _give_up(self) -> None:
        """End the patience of those who wait now; the load goes on."""
        self._background = True
        if not self._stand_in():
            waited = self.route.rules.hard_timeout
            self._reject(LoadTimeout(f"loading {self.key!r} took more than {waited} s; it goes on"))

    def _usable(self) -> Found | None:
        """Return the stale copy where it may still be served: never after the key was changed or dropped."""
        stale = self._stale
        if stale is MISSING or self.detached or not self.route.lives(self.key, stale):
            return None
        return stale

    def _abandon(self) -> None:
        if self._ended:
            return
        self._abandoned = True
        # Nothing can detach it any more, and its loader may take its time, or bring a value in spite of all.
        self.detached = True
        self._leave()
        if self._task is not None:
            self._task.cancel()
            if not self.loading and self.route.turns is None:
                # It ends without having begun; until then the loop refers to it.
                self.route.flights.running.discard(self._task)

    def _leave(self) -> None:
        for handle in self._late:
            handle.cancel()
        self._late.clear()
        if self.route.flights.loads.get(self.key) is self:
            del self.route.flights.loads[self.key]

    def _fail(self, error: Exception) -> None:
        """Let a stale copy stand in for the loader that failed; tell the error where there is none."""
        self.place.end(error)
        if self._refreshes is not None and not self.detached and self.route.keeping.postpone(self.key):
            # What was to be refreshed is still fresh.
            self._end(error)
            return
        stale = self._usable()
        if stale is None:
            if not self.detached:
                self.route.negatives.remember(self.key, error)
            self._end(error)
            return
        self.route.keeping.rearm(self.key, stale)
        self.route.counts.stale_served += len(self._waiters)
        self.landed = stale.value
        self._end()

    def _end(self, error: Exception | None = None) -> None:
        """Give everybody the outcome: what has landed, or *error*."""
        self._ended = True
        self.place.end(error)
        self._leave()
        if error is None:
            self._resolve(self.landed)
            return
        if isinstance(error, StopIteration):
            # A future refuses it, and in a coroutine it would end somebody's loop in silence.
            wrapped = LoadError(f"the loader of {self.key!r} raised StopIteration")
            wrapped.__cause__ = error
            error = wrapped
        self._error = error
        self._reject(error)

    def _resolve(self, value: Any) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(value)

    def _reject(self, error: Exception) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)
