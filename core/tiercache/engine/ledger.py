"""The markers that one far tier keeps: read before anything else is, and owed to it until it has them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from tiercache.clock import Clock
from tiercache.contracts import FarTier, Marks
from tiercache.engine.batching import Writes
from tiercache.engine.markers import Markers
from tiercache.errors import TierError

log = logging.getLogger("tiercache.tier")

LOOK_AGAIN: Final = 1.0
"""Seconds before a tier that could not be told is tried again."""
_FUTURE: Final = 86_400_000_000


class Ledger:
    """What one far tier knows of the markers, and what it has yet to be told.

    The tier's own markers are read whenever it is opened, before the first call that it answers; so nothing
    it holds is judged without them, however late it came.
    """

    __slots__ = (
        "_below", "_clock", "_markers", "_met", "_name", "_owed", "_tier", "_timer", "_writes",
        "learned",
    )  # fmt: skip

    def __init__(self, name: str, tier: FarTier, clock: Clock) -> None:
        self.learned: Callable[[dict[str, int]], None] = lambda _: None
        """Called with what the tier knew and this process did not."""
        self._name = name
        self._met = False
        self._tier = tier if isinstance(tier, Marks) else None
        self._clock = clock
        self._markers = Markers()
        self._writes: Writes | None = None
        self._owed: dict[str, int] = {}
        self._below = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._owed)

    @property
    def able(self) -> bool:
        """Whether the tier keeps markers."""
        return self._tier is not None

    def know(self, markers: Markers, writes: Writes, learned: Callable[[dict[str, int]], None]) -> None:
        """Take note of the cache's *markers*, of the tier's lane, and of whom to tell what is learned."""
        self._markers = markers
        self._writes = writes
        self.learned = learned

    async def exchange(self) -> None:
        """Read the tier's markers, and tell it those that it lacks. Raises what the tier raises."""
        if self._tier is None:
            return
        found = self._checked(await self._tier.marks())
        risen = self._markers.mark(found)
        if risen:
            self.learned(risen)
        while lacking := {name: at for name, at in self._markers.all().items() if found.get(name, 0) < at}:
            # Others may be learned meanwhile.
            await self._tier.mark(lacking, self._markers.whole)
            found |= lacking
        self._owed = {}
        self._met = True

    def owe(self, markers: Mapping[str, int], below: int = 0) -> asyncio.Future[bool | None] | None:
        """Write *markers*, in the tier's turn; drop what is lower than *below*.

        The future brings True, or None where the tier failed: then it is tried again until it is told.
        Return None where the tier keeps no markers, or has not been open yet: opening it tells it.
        """
        if self._tier is None or self._writes is None:
            return None
        if below:
            self._below = max(self._below, below)
            self._owed = {name: stamp for name, stamp in self._owed.items() if stamp >= self._below}
        for name, stamp in markers.items():
            self._owed[name] = max(stamp, self._owed.get(name, 0))
        # Before that it is told all there is when it is opened, and this must not open it a second time.
        return self._settled() if self._met else None

    def _settled(self) -> asyncio.Future[bool | None]:
        assert self._writes is not None
        done: asyncio.Future[bool | None] = self._writes.call(self._pay)
        done.add_done_callback(self._paid)
        return done

    async def settle(self) -> None:
        """Try once more to tell the tier what it is owed."""
        if self._owed:
            await self._settled()

    def end(self) -> None:
        """Give up."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._owed:
            log.warning(
                "tier %s was never told of %d invalidations: it may serve what they dropped",
                self._name,
                len(self._owed),
                extra={"tiercache_tier": self._name},
            )
            self._owed = {}
        self._met = False

    def _checked(self, found: Mapping[str, int]) -> dict[str, int]:
        now = self._clock.micros()
        markers: dict[str, int] = {}
        for name, stamp in found.items():
            if not isinstance(name, str) or type(stamp) is not int or stamp < 0:
                raise TierError("answered with markers that are not stamps by name")
            if stamp > now + _FUTURE:
                # Somebody's mistake. Followed, nothing written here would live; passed over, the dead might.
                markers[name] = self._clock.stamp()
            else:
                markers[name] = stamp
                self._clock.observe(stamp)
        return markers

    async def _pay(self) -> bool:
        assert self._tier is not None
        owed, below = dict(self._owed), self._below
        if owed or below:
            await self._tier.mark(owed, below)
        for name, stamp in owed.items():
            if self._owed.get(name) == stamp:
                del self._owed[name]
        if self._below == below:
            self._below = 0
        return True

    def _paid(self, done: asyncio.Future[bool | None]) -> None:
        # Not met, it is told all there is when it is opened; closed, it never will be.
        if self._met and not done.cancelled() and done.result() is None and self._timer is None:
            self._timer = done.get_loop().call_later(LOOK_AGAIN, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._owed or self._below:
            self._settled()
