"""Where a tier of this host stands on the bus of the shared tier before it, kept in the tier itself.

What is in it is certain only if nothing was missed since it was written. A process that opens it anew asks
where the bus was when somebody last listened for it: found at the same place, it has missed nothing.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

from tiercache.contracts import Remembers
from tiercache.engine.far import Far

UNSURE: Final = math.inf


class Position:
    """What is known of *far*, a tier behind the shared tier called *shared*."""

    __slots__ = ("_far", "_name", "_saved", "_sought", "stamp", "unknown")

    def __init__(self, shared: str, far: Far) -> None:
        self.stamp: float = UNSURE
        """Since when it has missed nothing, beside what this process knows itself."""
        self.unknown = False
        """Whether it has yet to be asked."""
        self._far = far
        self._name = f"position:{shared}"
        self._saved: tuple[float, int] | None = None
        self._sought: int | None = None

    def begin(self, position: int | None) -> None:
        """Begin to listen at *position*."""
        self._sought = position
        self.unknown = position is not None and isinstance(self._far.guard.tier, Remembers)

    def lose(self) -> None:
        """Something was missed."""
        self.stamp = UNSURE
        self.unknown = False

    async def ask(self, since: int) -> None:
        """Ask the tier where the bus was, where that is not known yet; *since* is when listening began."""
        tier = self._far.guard.tier
        if not self.unknown or not isinstance(tier, Remembers):
            return
        self.unknown = False
        sought = self._sought
        answer = await self._far.writes.call(partial(_recalled, tier, self._name))
        if answer is None or sought != self._sought:
            return
        (note,) = answer
        if note is None:
            # Nobody has ever listened for it: until now it stood alone, and what it holds it was told itself.
            self.stamp = 0
        elif len(note) == 16 and int.from_bytes(note[8:], "big") == sought:
            self.stamp = min(int.from_bytes(note[:8], "big"), since)

    async def save(self, stamp: float, position: int) -> None:
        """Let the tier keep that it has missed nothing from *stamp* to *position*."""
        tier = self._far.guard.tier
        if self.unknown or self._saved == (stamp, position) or not isinstance(tier, Remembers):
            return
        note = int(stamp).to_bytes(8, "big") + position.to_bytes(8, "big")
        # In its turn, behind what was heard before the position.
        if await self._far.writes.call(partial(_remembered, tier, self._name, note)):
            self._saved = stamp, position


async def _recalled(tier: Remembers, name: str) -> tuple[bytes | None]:
    return (await tier.recall(name),)


async def _remembered(tier: Remembers, name: str, note: bytes) -> bool:
    await tier.remember(name, note)
    return True
