"""Buses, by which processes hear of what others change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol


class Change(NamedTuple):
    """That a key was written or dropped."""

    key: str
    """With the namespace in front, as the tier knows it."""
    stamp: int
    """What was created before it is out of date; `NEVER`: whatever stands is."""


class Listener(Protocol):
    """What a bus tells: the kernel's side of it. Called on the event loop; nothing here blocks or raises."""

    lease: float
    """Seconds for which near entries are trusted after each `confirmed`."""

    def changed(self, changes: Iterable[Change]) -> None:
        """Take note of what other processes changed. Twice, late or out of order does no harm."""
        ...

    def marked(self, markers: Mapping[str, int]) -> None:
        """Take note of markers that other processes raised: stamps by name."""
        ...

    def now(self) -> float:
        """Return the seconds that `confirmed` is given in."""
        ...

    def confirmed(self, since: float, position: int | None = None) -> None:
        """Take note that everything announced before *since* has been told, or `lost` was called.

        *position* is a number that no change leaves as it was, and that never comes again; None where the bus
        has none. Who finds it again after a restart has missed nothing.
        """
        ...

    def lost(self) -> None:
        """Take note that something may have been announced and not been told."""
        ...


class Bus(Protocol):
    """Tells what other processes change in one far tier. No values travel, and no own changes come back.

    The tier announces what it changes, in one act with the change: how the two speak is theirs alone.
    """

    async def follow(self, listener: Listener) -> None:
        """Tell *listener* what happens, until cancelled; raise TierError where that fails.

        It is called again after a pause. Unless nothing can have been missed since the last `confirmed`,
        `lost` must be called before the next one. `confirmed` must come several times a lease, and only by
        proof, such as a message of one's own that has come back the way the others come.

        Raise TierRefused where it never will work as configured.
        """
        ...

    async def close(self) -> None:
        """Release everything. Called once, after `follow` was cancelled, also where it was never called."""
        ...
