"""The lease: how long near copies of one far tier may be believed, given what its bus tells.

Near entries are trusted while the lease lives. Only a confirmation renews it, counted from when what was
confirmed was sent; where something may have been missed, trust ends, and what was kept until then is a stale
copy at best. Whatever is kept meanwhile ends by itself after one lease, so that a source that stands behind a
dead bus sees one load per key, process and lease. After any lost message, then, staleness is at most a lease.

A silence alone ends no trust for good: where the confirmations come again over a connection that never broke,
everything in between was told, in its order.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from tiercache.clock import Clock
from tiercache.contracts import Bus, Change
from tiercache.engine.far import Far
from tiercache.engine.guard import under_cancellation
from tiercache.engine.offset import Offset
from tiercache.engine.position import Position
from tiercache.engine.tasks import begin
from tiercache.entry import FOREVER, Trust
from tiercache.errors import TierRefused

log = logging.getLogger("tiercache.bus")

FIRST: Final = 1.0
"""Seconds that a start waits for the bus to be heard."""
AGAIN: Final = 0.1
"""Seconds before a bus that failed is followed again; doubled each time, up to a lease."""
NEVER_HEARD: Final = -math.inf


class Coherence:
    """What is known of other processes' changes to one far tier. It is the `Listener` of the tier's bus.

    Without a bus everything is trusted, and the tier's markers are read once a lease.
    """

    __slots__ = (
        "_behind", "_chance", "_clock", "_dates", "_failing", "_first", "_lost_at", "_offset", "_pending",
        "_read_at", "_tasks", "_wake", "behind", "broken", "bus", "changes", "errors", "far", "heard",
        "lease", "markers", "outdated", "position", "renewed", "seconds", "since", "stamp", "trust",
    )  # fmt: skip

    def __init__(
        self,
        far: Far,
        bus: Bus | None,
        clock: Clock,
        *,
        lease: float,
        dates: bool = False,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.far = far
        self.bus = bus
        self.lease = lease
        # The clocks that tests inject leap, and a lease is about the time that messages take.
        self.seconds = time.monotonic if clock.exact else clock.monotonic
        """What `now` asks; for each read, which can't spare a call."""
        self.trust = Trust(self.now, NEVER_HEARD)
        """Of what is kept near now."""
        self.since = math.inf
        """Since when nothing was missed."""
        self.stamp = 0
        """The same moment as a stamp."""
        self.position: int | None = None
        """Where the bus was at the last confirmation."""
        self.behind: dict[Far, Position] = {}
        """The host's own tiers behind this one, and since when each has missed nothing."""
        self.outdated: dict[str, int] = {}
        """What is being dropped from the tiers behind: by address, the newest stamp that is out of date."""
        self.changes = 0
        """Changes by others that were heard."""
        self.errors = 0
        """Times that the bus failed."""
        self.heard: Callable[[Iterable[Change]], None] = lambda _: None
        self.markers: Callable[[Mapping[str, int]], None] = lambda _: None
        self.renewed: Callable[[], None] = lambda: None
        self.broken: Callable[[], None] = lambda: None
        self._clock = clock
        self._chance = chance
        self._dates = dates
        self._offset = Offset(far.guard, clock)
        self._behind = bus is not None
        self._failing = False
        self._lost_at = NEVER_HEARD
        self._read_at = NEVER_HEARD
        self._pending: tuple[float, int | None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._wake: asyncio.Event | None = None
        self._first: asyncio.Future[None] | None = None

    def now(self) -> float:
        """Return the seconds that leases are counted in."""
        return self.seconds()

    def grant(self, began: float) -> tuple[Trust, float]:
        """Return what an entry is trusted by whose read or load began at *began*, and for how many seconds
        it may be kept at most.
        """
        if self.bus is None or (began >= self.since and self.trust.holds()):
            return self.trust if self.bus is not None else FOREVER, math.inf
        return FOREVER, max(began + self.lease - self.now(), 0.0)

    def certain(self, far: Far, created_at: int) -> bool:
        """Whether what *far*, a tier behind this one, holds since *created_at* is surely not out of date."""
        if self.bus is None:
            return True
        return self.trust.holds() and created_at >= min(self.stamp, self.behind[far].stamp)

    def informed(self) -> bool:
        """Whether the tier's markers are known, but for those of the last lease."""
        return (
            self.bus is None
            or not self.far.ledger.able
            or self.trust.holds()
            or self.now() - self._read_at <= self.lease
        )

    # What the bus tells

    def changed(self, changes: Iterable[Change]) -> None:
        """Drop what is older than *changes*."""
        changes = tuple(changes)
        self.changes += len(changes)
        self.heard(changes)

    def marked(self, markers: Mapping[str, int]) -> None:
        """Heed *markers*."""
        self.changes += len(markers)
        self.markers(markers)

    def confirmed(self, since: float, position: int | None = None) -> None:
        """Trust for a lease from *since*."""
        if self._behind:
            if since < self._lost_at:
                return
            if self.far.ledger.able and self._read_at < self._lost_at:
                # Markers, too, may have been missed.
                self._pending = since, position
                self._look()
                return
            self._behind = False
        if self.trust.until == NEVER_HEARD:
            self.trust = Trust(self.now, since + self.lease)
            self.since = since
            self.stamp = self._clock.micros() - int((self.now() - since) * 1_000_000)
            for known in self.behind.values():
                known.begin(position)
            self._look()
            log.info("tier %s: the lease lives, near copies are trusted", self.far.name, extra=self._extra())
        else:
            self.trust.until = max(self.trust.until, since + self.lease)
            if self._failing:
                log.info("tier %s: its bus is followed again", self.far.name, extra=self._extra())
        self._failing = False
        self.position = position
        self.renewed()
        if not any(known.unknown for known in self.behind.values()):
            self._settle(None)

    def lost(self) -> None:
        """Trust nothing that was kept until now."""
        self._lost_at = self.now()
        self._behind = True
        self._pending = None
        if self.trust.until != NEVER_HEARD:
            log.warning(
                "tier %s: changes by others may have been missed, near copies are trusted no more",
                self.far.name,
                extra=self._extra(),
            )
            self.trust.until = NEVER_HEARD
            self.since = math.inf
            for known in self.behind.values():
                known.lose()
            self.broken()

    # Its life

    async def open(self) -> None:
        """Begin to follow, and wait a moment for the lease. Raises TierRefused where that never will work."""
        self._wake = asyncio.Event()
        if self._dates:
            await self._offset.measure()
        loop = asyncio.get_running_loop()
        if self._clock.exact:
            self.seconds = loop.time
        self._tasks.append(begin(self._attend(), "tiercache-lease", loop=loop))
        if self.bus is None:
            return
        self._first = loop.create_future()
        self._tasks.append(begin(self._follow(self.bus), "tiercache-bus", loop=loop))
        if self.far.guard.available:
            await asyncio.wait([self._first], timeout=FIRST)
            if self._first.done():
                self._first.result()

    async def close(self) -> None:
        """Stop following."""
        await self._save()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._settle(None)
        self.trust.until = NEVER_HEARD
        self.since = math.inf
        self._behind = self.bus is not None
        if self.bus is not None:
            await self.bus.close()

    async def _follow(self, bus: Bus) -> None:
        pause = AGAIN
        while True:
            began = self.now()
            try:
                await bus.follow(self)
            except TierRefused as error:
                if self._first is None or self._first.done():
                    log.error("tier %s: its bus is refused: %s", self.far.name, error, extra=self._extra())  # noqa: TRY400 - says all
                self._settle(error)
                return
            except asyncio.CancelledError as error:
                if under_cancellation():
                    raise
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything; it is counted and logged
                self._failed(error)
            self._settle(None)
            if self.now() - began > self.lease:
                pause = AGAIN
            await asyncio.sleep(pause * (1 - self._chance() / 2))
            pause = min(2 * pause, max(self.lease, AGAIN))

    async def _attend(self) -> None:
        """Notice a silence, and read the markers where nobody tells of them."""
        assert self._wake is not None
        while True:
            try:
                pause = self.lease if self.bus is None else self.lease / 4
                async with asyncio.timeout(min(pause, self._offset.due()) if self._dates else pause):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if self._dates:
                await self._offset.measure()
            silent = self.trust.until + self.lease < self.now()
            if silent and self.trust.until != NEVER_HEARD:
                self.lost()
            unread = self._behind and self._read_at < self._lost_at
            if self.bus is None or unread or self.now() - self._read_at > self.lease / 2:
                await self._read()
            for known in self.behind.values():
                await known.ask(self.stamp)
            if self.trust.holds():
                self._settle(None)
            await self._save()

    async def _save(self) -> None:
        """Let the tiers behind keep where the bus is, as long as they have missed nothing."""
        if self.trust.holds() and self.position is not None:
            for known in self.behind.values():
                await known.save(min(self.stamp, known.stamp), self.position)

    async def _read(self) -> None:
        if not self.far.ledger.able or self.trust.holds():
            return
        began = self.now()

        async def exchanged() -> bool:
            await self.far.ledger.exchange()
            return True

        if await self.far.guard.call(exchanged):
            self._read_at = began
            pending, self._pending = self._pending, None
            if pending is not None:
                self.confirmed(*pending)

    def _look(self) -> None:
        if self._wake is not None:
            self._wake.set()

    def _failed(self, error: BaseException) -> None:
        self.errors += 1
        # Of an outage beginning and end are told, and of the bus nothing where the tier is known to be lost.
        told = self._failing or (self._behind and self.errors > 1) or not self.far.guard.available
        self._failing = True
        level = logging.DEBUG if told else logging.WARNING
        log.log(
            level, "tier %s: its bus failed: %s: %s", self.far.name, type(error).__name__, error,
            extra=self._extra(),
        )  # fmt: skip

    def _settle(self, error: Exception | None) -> None:
        if self._first is None or self._first.done():
            return
        if error is None:
            self._first.set_result(None)
        else:
            self._first.set_exception(error)

    def _extra(self) -> dict[str, str]:
        return {"tiercache_tier": self.far.name}
