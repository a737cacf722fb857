"""All that a cache has: its routes and the tiers that they share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from tiercache.clock import Clock
from tiercache.contracts import NearTier, Pattern
from tiercache.engine.batching.reads import quiet
from tiercache.engine.coherence import Coherence
from tiercache.engine.far import Far
from tiercache.engine.flights import Closing
from tiercache.engine.guard import FRAMES, answers
from tiercache.engine.hearing import Hearing
from tiercache.engine.invalidation import Invalidation
from tiercache.engine.markers import MOST
from tiercache.engine.patterns import Work
from tiercache.engine.pipeline import Route
from tiercache.engine.snapshot import snapshot
from tiercache.engine.stats import Patterns, Stats
from tiercache.engine.tasks import begin
from tiercache.engine.telemetry import Options, Telemetry, Watch
from tiercache.entry import Entry
from tiercache.errors import TierError, Undecodable, Unsupported
from tiercache.frame import TOMBSTONE
from tiercache.keys import LONGEST, check_key, glob, literal_prefix

log = logging.getLogger("tiercache.cache")

CLOSE_WITHIN: Final = 5.0
"""Seconds that `close` waits for what is under way in a tier, and again for the tier itself."""

TOMBSTONES: Final = 60.0
"""Seconds for which deletes are remembered in far tiers where nothing else is said."""

SLICE: Final = 0.001
"""Seconds of housekeeping that a near tier does before the loop has its turn again."""

REST: Final = 0.5
"""Seconds between two looks for housekeeping."""


class House:
    """The live stages of one cache, wired."""

    __slots__ = (
        "__weakref__", "_checked", "began", "clock", "closing", "default", "fars", "globs", "hearing",
        "invalidation", "namespace", "nears", "origin", "patterns", "plan", "routes", "telemetry",
        "tombstone", "work",
    )  # fmt: skip

    def __init__(
        self,
        *,
        namespace: str,
        clock: Clock,
        routes: Mapping[str, Route],
        default: str,
        globs: Sequence[tuple[str, str]],
        patterns: Sequence[str] = (),
        nears: Mapping[str, NearTier],
        fars: Mapping[str, Far],
        coherences: Sequence[Coherence] = (),
        options: Options | None = None,
        max_markers: int = MOST,
        tombstone: float = TOMBSTONES,
        stages: Sequence[Pattern] = (),
    ) -> None:
        self.namespace = namespace
        self.clock = clock
        self._checked: object = object()
        self.plan: Any = None
        """The plan that this was built from; the engine does not look into it."""
        self.origin: tuple[Any, dict[str, Any]] = (None, {})
        """What it was read from, and what won over that."""
        self.began = clock.monotonic()
        self.patterns = Patterns(patterns)
        self.routes = dict(routes)
        self.default = self.routes[default]
        self.nears = dict(nears)
        self.fars = dict(fars)
        for far in self.fars.values():
            far.prefix = f"{namespace}:"
        patience = (route.rules.hard_timeout or 0.0 for route in self.routes.values())
        self.tombstone = max(tombstone, *patience)
        """Seconds for which far tiers keep out what is older than a delete."""
        self.closing = Closing()
        self.work = Work(stages)
        self.globs = tuple((glob(pattern).fullmatch, self.routes[name], pattern) for pattern, name in globs)
        """In the order of the document: the first that matches a key has it."""
        parts = tuple(self.routes.values()), tuple(self.nears.values()), tuple(self.fars.values())
        self.invalidation = Invalidation(
            namespace, clock, most=max_markers, routes=parts[0], nears=parts[1], fars=parts[2],
            delete=self.delete,
        )  # fmt: skip
        for route in self.routes.values():
            route.counts.patterns = route.keeping.patterns = self.patterns
            route.know(*parts, self.closing, self.invalidation.markers, coherences)
        self.hearing = Hearing(
            namespace, clock, routes=parts[0], nears=parts[1], coherences=coherences,
            invalidation=self.invalidation, tombstone=self.tombstone,
        )  # fmt: skip
        self.telemetry = Telemetry(options or Options(), namespace, self.patterns, self.stats, self._watched)

    def way(self, key: str, name: str | None = None) -> Route:
        """Return the route that *key* travels on: the named one, else the first whose globs match.

        Raises InvalidKey for what is no key, ValueError for a name that no route has.
        """
        # A miss is mostly followed by a set of the same key, which is not looked at again: 60 ns.
        if key is not self._checked:
            if not (type(key) is str and 0 < len(key) <= LONGEST and key.isascii() and key.isprintable()):
                # Written out from there, what nearly all keys are: its call would cost as much as the look.
                check_key(key)
            self._checked = key
        if name is not None:
            try:
                return self.routes[name]
            except KeyError:
                known = ", ".join(self.routes)
                raise ValueError(f'no route "{name}" is declared; there are: {known}') from None
        for matches, route, _ in self.globs:
            if matches(key):
                return route
        return self.default

    def tiers_of(self, route: Route) -> tuple[str, ...]:
        """Return the names of the tiers of *route*, nearest first."""
        near = (name for name, tier in self.nears.items() if tier is route.near)
        return (*near, *(far.name for far in route.fars))

    async def open(self) -> None:
        """Open every far tier. Raises TierRefused where one never will work as configured."""
        self.telemetry.start()
        for route in self.routes.values():
            route.flights.loop = asyncio.get_running_loop()
        results = await asyncio.gather(
            *(far.guard.open() for far in self.fars.values()), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        await self.invalidation.open()
        await self.hearing.open()

    async def close(self) -> None:
        """Wait for what is under way, then close every far tier, also where another fails or hangs."""
        reads = [far.reads for far in self.fars.values()]
        await self._close("what was being read", partial(quiet, reads))
        running = [task for route in self.routes.values() for task in route.flights.running]
        if running:
            _, late = await asyncio.wait(running, timeout=CLOSE_WITHIN)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._close("the bus", self.hearing.close, self.invalidation.close)
        for near in self.nears.values():
            near.clear()
        await asyncio.gather(
            *(self._close(f"tier {far.name}", far.idle, far.close) for far in self.fars.values())
        )
        await self.telemetry.stop()

    @staticmethod
    async def _close(what: str, *steps: Callable[[], Awaitable[None]]) -> None:
        for step in steps:
            try:
                async with asyncio.timeout(CLOSE_WITHIN):
                    await step()
            except Exception as error:  # noqa: BLE001 - the others must be closed all the same
                log.warning("%s did not close cleanly: %s: %s", what, type(error).__name__, error)

    async def sweep(self) -> None:
        """Do the near tiers' housekeeping for ever, in slices that never hold the loop for long."""
        nears = tuple(self.nears.values())
        while True:
            now = self.clock.monotonic()
            more = [near.work(now, SLICE / len(nears)) for near in nears]
            await asyncio.sleep(0 if any(more) else REST)

    def forget(self, key: str) -> bool:
        """Drop *key* from the near tiers and detach its flights; return whether it was there, and fresh."""
        self.default.detach(key)
        there = False
        for near in self.nears.values():
            entry = near.get(key)
            if entry is not None:
                there = there or self.clock.monotonic() < entry.fresh_until + entry.terms.ahead
                near.remove(key)
        return there

    async def delete(self, addresses: Mapping[str, str]) -> int:
        """Drop keys, given with their addresses, from every tier; return how many were there."""
        there = {key for key in addresses if self.forget(key)}
        if not self.fars:
            return len(there)
        waiting = [
            (key, [(far, far.writes.bury(address, self.tombstone)) for far in reversed(self.fars.values())])
            for key, address in addresses.items()
        ]

        closed = ExitStack()
        closed.enter_context(self.closing.keys(addresses))

        async def buried() -> None:
            try:
                with closed:
                    for key, under_way in waiting:
                        if self._held(key, addresses[key], [(far, await done) for far, done in under_way]):
                            there.add(key)
            finally:
                # Again: a read that began before the far tiers were done may have brought a value back.
                for key in addresses:
                    self.forget(key)

        # Who is cancelled leaves; the keys stay closed until the far tiers are done all the same.
        task = begin(buried(), "tiercache-delete")
        self.default.flights.running.add(task)
        task.add_done_callback(self.default.flights.running.discard)
        await asyncio.shield(task)
        return len(there)

    def _held(self, key: str, address: str, frames: Sequence[tuple[Far, bytes | None]]) -> bool:
        """Whether one of *frames* was a fresh entry of *key*, and no tombstone of another tier covered it."""
        heads = []
        for far, frame in frames:
            if frame:
                try:
                    heads.append(self.default.head(far, address.encode(), frame))
                except Undecodable:
                    far.guard.counts.corrupt += 1
        buried = max((head.stamp for head in heads if head.flags & TOMBSTONE), default=0)
        now, killed = self.clock.micros(), self.invalidation.markers.killed
        return any(
            not head.flags & TOMBSTONE
            and head.created_at > buried
            and now < head.fresh_until
            and not killed(key, head.tags, head.created_at)
            for head in heads
        )

    def standing(self, key: str, route: Route) -> Entry | None:
        """Return the near entry of *key* on *route* where it is fresh. Not a read."""
        entry = route.near.get(key) if route.near is not None else None
        if entry is None or self.clock.monotonic() >= entry.fresh_until + entry.terms.ahead:
            return None
        if not entry.terms.trust.holds():
            return None
        return None if self.invalidation.dead(entry) else entry

    def empty(self) -> None:
        """Drop everything near, and detach every flight."""
        for route in self.routes.values():
            route.flights.detach_all()
            route.negatives.clear()
        for near in self.nears.values():
            near.clear()

    def check_wipes(self) -> None:
        """Raise Unsupported where a far tier can neither be marked nor drop nor list what is in it."""
        for far in self.fars.values():
            if far.wipe is None and far.scan is None and not far.ledger.able:
                raise Unsupported(
                    f"tier {far.name} can't be cleared: it can neither keep markers, nor drop or list its "
                    "keys (the abilities Marks, Wipes and Scans)"
                )

    async def wipe(self) -> None:
        """Drop everything of this namespace from the far tiers that can."""
        with self.closing.whole():
            for done in [far.writes.wipe() for far in self.fars.values() if far.wipe or far.scan]:
                await done

    async def keys(self, match: str) -> AsyncIterator[str]:
        """Yield the fresh keys that *match*, each once, from all tiers that can list theirs."""
        matches = glob(match).fullmatch
        seen: set[str] = set()
        for near in self.nears.values():
            held = near.keys()
            for key in held:
                entry = near.get(key)
                if (
                    entry is not None
                    and matches(key)
                    and key not in seen
                    and self.clock.monotonic() < entry.fresh_until + entry.terms.ahead
                    and entry.terms.trust.holds()
                    and not self.invalidation.dead(entry)
                ):
                    seen.add(key)
                    yield key
        start = len(self.namespace) + 1
        prefix = f"{self.namespace}:{literal_prefix(match)}"
        buried: dict[str, int] = {}
        for far in self.fars.values():
            if far.scan is None or far.guard.barred():
                continue
            try:
                async for chunk in far.listed(prefix):
                    wanted = [a for a in dict.fromkeys(chunk) if a[start:] not in seen and matches(a[start:])]
                    for address in await self._fresh(far, wanted, buried):
                        seen.add(address[start:])
                        yield address[start:]
            except TierError:
                # Counted by its guard; the other tiers are listed all the same.
                continue

    async def _fresh(self, far: Far, addresses: list[str], buried: dict[str, int]) -> list[str]:
        """Return which of *addresses* hold something fresh in *far*; note the tombstones in *buried*."""
        addresses = [address for address in addresses if not far.recovery.hides(address)]
        if not addresses:
            return []
        fresh = []
        start = len(self.namespace) + 1
        decoder = self.default.decoder
        frames: list[bytes | None] | None = await far.guard.call(
            answers, far.guard.tier.read, addresses, FRAMES
        )
        for address, frame in zip(addresses, frames or (), strict=False):
            if frame is None:
                continue
            try:
                head = decoder.head(address.encode(), frame)
            except Undecodable:
                far.guard.counts.corrupt += 1
                continue
            if head.flags & TOMBSTONE:
                buried[address] = max(head.stamp, buried.get(address, 0))
            elif (
                head.created_at > buried.get(address, 0)
                and self.clock.micros() < head.fresh_until
                and not self.invalidation.markers.killed(address[start:], head.tags, head.created_at)
            ):
                fresh.append(address)
        return fresh

    def _watched(self, watch: Watch | None) -> None:
        for far in self.fars.values():
            far.guard.watch = watch
        for route in self.routes.values():
            route.watch = watch

    def stats(self) -> Stats:
        """Return a snapshot of what was counted."""
        return snapshot(self)
