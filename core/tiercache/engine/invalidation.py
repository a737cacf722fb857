"""Invalidation by tag, by prefix, by glob, and of everything.

All but globs are markers, so that they cost the same however much they concern: the marker is in memory
first, and from then on whatever is read or stored is judged by it; then it goes to the far tiers that keep
markers, and what it concerns leaves the near tiers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from time import perf_counter
from typing import Final

from tiercache.clock import Clock, Ticker
from tiercache.contracts import NearTier
from tiercache.engine.far import Far
from tiercache.engine.markers import EVERYTHING, Markers, of_prefix, of_tag
from tiercache.engine.offset import past
from tiercache.engine.pipeline import Route
from tiercache.engine.tasks import begin
from tiercache.entry import Entry
from tiercache.errors import TierError, Unsupported
from tiercache.keys import check_key, escape, glob, literal_prefix

SLICE: Final = 0.001
"""Seconds for which near entries are dropped before the loop has its turn again."""
CHUNK: Final = 500
"""Keys that a glob deletes at a time."""


class Invalidation:
    """What invalidates, and judges by what was invalidated."""

    __slots__ = (
        "_clock", "_delete", "_dropping", "_fars", "_nears", "_prefix", "_routes", "markers", "ticker",
    )  # fmt: skip

    def __init__(
        self,
        namespace: str,
        clock: Clock,
        *,
        most: int,
        routes: Sequence[Route],
        nears: Sequence[NearTier],
        fars: Sequence[Far],
        delete: Callable[[Mapping[str, str]], Awaitable[int]],
    ) -> None:
        self.markers = Markers(most)
        self.ticker: Ticker | None = None
        """What near hits are sent to the slow path by, while near entries that are dead remain."""
        self._prefix = f"{namespace}:"
        self._clock = clock
        self._routes = routes
        self._nears = nears
        self._fars = fars
        self._delete = delete
        self._dropping: set[asyncio.Task[None]] = set()
        for far in fars:
            far.ledger.know(self.markers, far.writes, self._learned)
            if far.scope == "shared" and far.ledger.able:
                far.recovery.overflowed = self._overflowed

    async def open(self) -> None:
        """Let each far tier know what another one knew."""
        await self.told(self._owed(self.markers.all(), self.markers.whole))

    async def close(self) -> None:
        """Wait until what is dead has left the near tiers."""
        await asyncio.gather(*self._dropping)

    def dead(self, entry: Entry) -> bool:
        """Whether *entry*, of a near tier, was invalidated, or is not held any more."""
        if entry.created_at > self.markers.newest:
            return False
        for near in self._nears:
            if near.get(entry.key) is entry:
                return self.markers.killed(entry.key, near.tags(entry.key), entry.created_at) > 0
        return True

    def mark_everything(self) -> list[asyncio.Future[bool | None]]:
        """Mark everything; return what must be awaited until the far tiers have the marker."""
        return self._mark([EVERYTHING])

    def check(self, tags: Iterable[str], prefix: str | None, match: str | None) -> tuple[str, ...]:
        """Return *tags*. Raises ValueError or TypeError where nothing, or too much, is asked for."""
        if isinstance(tags, str):
            raise TypeError(f"tags must be a collection of str; for one tag write ({tags!r},)")
        labels = tuple(dict.fromkeys(tags))
        for label in labels:
            check_key(label)
        if match is not None and (labels or prefix is not None):
            raise ValueError("match stands alone; tags and prefix may be given together")
        if match is None and prefix is None and not labels:
            raise ValueError("nothing to invalidate: tags, prefix or match is needed")
        if prefix is not None:
            if prefix == "":
                raise ValueError("an empty prefix is everything; clear() drops everything")
            check_key(prefix)
        if match == "":
            raise ValueError('an empty pattern matches nothing; one such as "user:*" is accepted')
        keeps = any(far.ledger.able for far in self._fars)
        if labels and self._fars and not keeps:
            raise Unsupported(
                "tags can't be invalidated: none of the far tiers keeps markers (the ability Marks), so what "
                "they hold would be back when the process starts anew"
            )
        return labels

    async def covering(self, tags: Sequence[str], prefix: str | None) -> None:
        """Invalidate what carries one of *tags*, and the keys that begin with *prefix*."""
        names = [*map(of_tag, tags), *(() if prefix is None else (of_prefix(prefix),))]
        durable = self._mark(names)
        for route in self._routes:
            self._part(route, set(tags), prefix)
        await self._drop(self._doomed(tags, prefix))
        await self.told(durable)
        if prefix and self._fars and not any(far.ledger.able for far in self._fars):
            # The marker is of this process alone, so what can be found goes.
            await self._found(escape(prefix) + "*")

    async def matching(self, pattern: str) -> int | None:
        """Delete the keys that *pattern* matches, in chunks, and return how many were there.

        A pattern that is a prefix and a star is a prefix. Where a far tier can't list its keys, all that
        begins as every match does is invalidated instead, and None is returned.
        """
        glob(pattern)
        literal = literal_prefix(pattern)
        rest = _behind_literal(pattern)
        if not rest:
            check_key(literal)
            return await self._delete({literal: self._prefix + literal})
        if not rest.strip("*") and literal:
            await self.covering((), literal)
            return None
        count, complete = await self._found(pattern)
        if complete:
            return count
        await self.covering((), literal)
        return None

    async def _found(self, pattern: str) -> tuple[int, bool]:
        """Delete what matches; return how many keys were there, and whether every tier could be listed."""
        matches = glob(pattern).fullmatch
        for route in self._routes:
            for key in [*route.flights.loads, *route.flights.probes]:
                if matches(key):
                    route.flights.detach(key)
        held = chain.from_iterable(tier.keys() for tier in self._nears)
        count = 0
        start = len(self._prefix)
        # What is on its way to a tier is in no list yet, and would arrive after it.
        coming = chain.from_iterable(far.writes.addresses() for far in self._fars)
        standing = filter(matches, chain(held, {address[start:]: None for address in coming}))
        while chunk := list(islice(standing, CHUNK)):
            count += await self._delete({key: self._prefix + key for key in chunk})
        complete = True
        for far in self._fars:
            if far.scan is None or far.guard.barred():
                complete = False
                continue
            try:
                async for found in far.listed(self._prefix + literal_prefix(pattern)):
                    wanted = {address[start:]: address for address in found if matches(address[start:])}
                    if wanted:
                        count += await self._delete(wanted)
            except TierError:
                # Counted by its guard; what it holds is marked instead.
                complete = False
        return count, complete

    def _mark(self, names: Iterable[str]) -> list[asyncio.Future[bool | None]]:
        stamp = self._clock.final()
        before = self.markers.whole
        risen = self.markers.mark(dict.fromkeys(names, stamp))
        return self._owed(risen, self.markers.whole if self.markers.whole > before else 0)

    def _owed(
        self, markers: Mapping[str, int], below: int, source: Far | None = None
    ) -> list[asyncio.Future[bool | None]]:
        if not markers:
            return []
        told = (far.ledger.owe(markers, below) for far in self._fars if far is not source)
        return [done for done in told if done is not None]

    async def told(self, durable: Sequence[asyncio.Future[bool | None]]) -> None:
        """Wait until the far tiers have the markers that *durable* stands for, or have failed."""
        for done in durable:
            # Shielded: who is cancelled here has marked all the same, and the tiers must hear of it.
            await asyncio.shield(done)
        if durable:
            # A marker of another process, whose clock may be wrong, is in `newest` and not in `last`.
            await past(self._clock, min(self.markers.newest, self._clock.last))

    def heard(self, markers: Mapping[str, int], source: Far) -> None:
        """Heed *markers* that another process wrote into *source*."""
        if risen := self.markers.mark(markers):
            self._learned(risen, source)

    def _learned(self, markers: dict[str, int], source: Far | None = None) -> None:
        """Heed *markers* that a far tier knew before this process did."""
        self._owed(markers, self.markers.whole if EVERYTHING in markers else 0, source)
        news = Markers()
        news.mark(markers)
        for route in self._routes:
            for key, load in list(route.flights.loads.items()):
                if load.loading and news.killed(key, load.life.tags, 1):
                    route.flights.detach(key)
            route.negatives.forget_all("")
        held = ((near, key) for near in self._nears for key in near.keys())  # noqa: SIM118 - no dict
        task = begin(self._drop(held), "tiercache-invalidate")
        self._dropping.add(task)
        task.add_done_callback(self._dropping.discard)
        if (ticker := self.ticker) is not None:
            # From this moment on, not from the task's first turn.
            ticker.shut()
            task.add_done_callback(lambda _: ticker.open())

    def _overflowed(self) -> None:
        """Mark everything. A shared tier was never told of changes that nobody here knows any more; what they
        dropped may wait in other processes, and be put back by them.
        """
        self._learned(self.markers.mark({EVERYTHING: self._clock.final()}))

    def _part(self, route: Route, tags: set[str], prefix: str | None) -> None:
        """Let nobody join the loads under way that are concerned.

        One that has not called its loader yet will do that after the marker. One whose loader names the tags
        itself is known only when it ends: see `Load.killed`.
        """
        for key, load in list(route.flights.loads.items()):
            covered = not tags.isdisjoint(load.life.tags) or (prefix is not None and key.startswith(prefix))
            if load.loading and covered:
                route.flights.detach(key)
        route.negatives.forget_all(prefix if not tags else "")

    def _doomed(self, tags: Sequence[str], prefix: str | None) -> Iterator[tuple[NearTier, str]]:
        for near in self._nears:
            for tag in tags:
                for key in near.tagged(tag):
                    yield near, key
            if prefix is not None:
                held = near.keys()
                for key in held:
                    # Looking takes time, too, so what is passed over is told as well.
                    yield near, key if key.startswith(prefix) else ""

    async def _drop(self, doomed: Iterator[tuple[NearTier, str]]) -> None:
        """Drop those of *doomed* that are dead, in slices between which every hit is judged."""
        ticker = self.ticker
        if ticker is not None:
            ticker.shut()
        try:
            more = self._slice(doomed, perf_counter() + SLICE)
            while more:
                await asyncio.sleep(0)
                more = self._slice(doomed, perf_counter() + SLICE)
        finally:
            # Cancelled half-way: what is dead must have gone before hits are not judged any more.
            self._slice(doomed, float("inf"))
            if ticker is not None:
                ticker.open()

    def _slice(self, doomed: Iterator[tuple[NearTier, str]], deadline: float) -> bool:
        """Drop until *deadline*; return whether there may be more."""
        for near, key in doomed:
            entry = near.get(key) if key else None
            if entry is not None and self.dead(entry):
                near.remove(key)
            if perf_counter() >= deadline:
                return True
        return False


def _behind_literal(pattern: str) -> str:
    """Return what is left of *pattern* from its first special character on."""
    i = 0
    while i < len(pattern) and pattern[i] not in "*?[":
        i += 2 if pattern[i] == "\\" else 1
    return pattern[i:]
