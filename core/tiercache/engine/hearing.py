"""What is done in this process about what others changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Final

from tiercache.clock import NEVER, Clock, Ticker
from tiercache.contracts import Change, NearTier
from tiercache.engine.codec import tombstone
from tiercache.engine.coherence import Coherence
from tiercache.engine.far import Far
from tiercache.engine.invalidation import Invalidation
from tiercache.engine.pipeline import Route
from tiercache.engine.position import Position
from tiercache.engine.tasks import begin

SLICE: Final = 0.001
"""Seconds for which near entries are looked through before the loop has its turn again."""


class Hearing:
    """Drops from the near tiers, and from the host's own tiers behind a shared one, what others changed."""

    __slots__ = (
        "_behind",
        "_clock",
        "_invalidation",
        "_nears",
        "_prefix",
        "_routes",
        "_sweeping",
        "coherences",
        "tombstone",
    )  # fmt: skip

    def __init__(
        self,
        namespace: str,
        clock: Clock,
        *,
        routes: Sequence[Route],
        nears: Sequence[NearTier],
        coherences: Sequence[Coherence],
        invalidation: Invalidation,
        tombstone: float,
    ) -> None:
        self.coherences = tuple(coherences)
        self._prefix = f"{namespace}:"
        self._clock = clock
        self._routes = {route.name: route for route in routes}
        self._nears = nears
        self._invalidation = invalidation
        self.tombstone = tombstone
        self._sweeping: set[asyncio.Task[None]] = set()
        self._behind: dict[Coherence, tuple[Far, ...]] = {}
        for coherence in self.coherences:
            behind: dict[Far, None] = {}
            for route in routes:
                if route.coherence is coherence:
                    behind |= dict.fromkeys(route.behind)
            self._behind[coherence] = tuple(behind)
            coherence.behind = {far: Position(coherence.far.name, far) for far in behind}
            coherence.heard = partial(self._changed, coherence)
            coherence.markers = partial(self._marked, coherence)
            coherence.renewed = self._renewed
            coherence.broken = self._broken

    async def open(self) -> None:
        """Follow every bus. Raises TierRefused where one never will work as configured."""
        results = await asyncio.gather(
            *(coherence.open() for coherence in self.coherences), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def close(self) -> None:
        """Stop following, also where one bus fails to close."""
        results = await asyncio.gather(
            *(coherence.close() for coherence in self.coherences), return_exceptions=True
        )
        for task in self._sweeping:
            task.cancel()
        await asyncio.gather(*self._sweeping, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _changed(self, source: Coherence, changes: Iterable[Change]) -> None:
        start = len(self._prefix)
        default = next(iter(self._routes.values()))
        for address, stamp in changes:
            if not address.startswith(self._prefix):
                continue
            key = address[start:]
            if stamp != NEVER:
                self._clock.observe(stamp)
            default.detach(key)
            for route in self._routes.values():
                route.negatives.forget(key)
            for near in self._nears:
                entry = near.get(key)
                if entry is not None and entry.created_at < stamp:
                    near.remove(key)
            for far in self._behind[source]:
                self._bury(source, far, address, stamp)

    def _bury(self, source: Coherence, far: Far, address: str, stamp: int) -> None:
        """Let *far*, which is of this host, give *address* no more where it is older than *stamp*.

        A process of the same host may have made the change, and written it there, too: that stays.
        """
        stamp = self._clock.stamp() if stamp == NEVER else stamp
        newest = stamp - 1
        source.outdated[address] = max(newest, source.outdated.get(address, 0))
        expires_at = self._clock.micros() + int(self.tombstone * 1_000_000)
        # Kept out by what has the same stamp: that is the change itself.
        frame = tombstone(address.encode(), stamp, expires_at)
        done = far.writes.write(far.record(address, frame, expires_at, conditional=True))
        done.add_done_callback(partial(self._buried, source, address, newest))

    @staticmethod
    def _buried(source: Coherence, address: str, newest: int, _: object) -> None:
        if source.outdated.get(address) == newest:
            del source.outdated[address]

    def _marked(self, source: Coherence, markers: Mapping[str, int]) -> None:
        for stamp in markers.values():
            self._clock.observe(stamp)
        self._invalidation.heard(markers, source.far)

    def _renewed(self) -> None:
        """Let hits be quick for as long as what they find is trusted."""
        ticker = self._invalidation.ticker
        if ticker is not None:
            lives = [c.trust.until for c in self.coherences if c.trust.until > 0]
            ticker.until = min(lives, default=float("inf"))

    def _broken(self) -> None:
        ticker = self._invalidation.ticker
        if ticker is not None:
            ticker.shut()
        task = begin(self._sweep(ticker), "tiercache-distrust")
        self._sweeping.add(task)
        task.add_done_callback(self._sweeping.discard)
        # No entry of the broken trust is hit any more, so nothing needs to end with it.
        self._renewed()

    async def _sweep(self, ticker: Ticker | None) -> None:
        """Make stale copies of what is trusted no more, in slices between which every hit is judged."""
        try:
            deadline = perf_counter() + SLICE
            for near in self._nears:
                held = near.keys()
                for key in held:
                    entry = near.get(key)
                    if entry is not None and entry.terms.trust.until == -float("inf"):
                        self._routes[entry.terms.route].keeping.distrust(entry)
                    if perf_counter() >= deadline:
                        await asyncio.sleep(0)
                        deadline = perf_counter() + SLICE
            for route in self._routes.values():
                route.keeping.retire()
        finally:
            if ticker is not None:
                ticker.open()
