"""When a queue should be rid of entries that were deleted or have expired while they waited in it."""

from __future__ import annotations

from typing import Final

from tiercache import Entry

SHARE: Final = 4
SPARE: Final = 32
BYTES_EACH: Final = 64


class Remains:
    """Counts what was removed from the middle of a queue and still stands in it.

    A queue can't give up its middle at once, so a removed entry keeps its place, and its value its
    memory, until the queue is built anew. That is due when a quarter of the queue is dead, which costs a
    removal some five steps of the rebuild, or when the dead weigh more than 64 bytes for each that lives,
    so that a few large values are not kept for the sake of many small ones.
    """

    __slots__ = ("count", "weight")

    def __init__(self) -> None:
        self.count = 0
        self.weight = 0

    def due(self, entry: Entry, live: int) -> bool:
        """Count *entry* in; return whether a queue of *live* entries should be rebuilt."""
        self.count += 1
        self.weight += entry.weight
        return self.count > live // SHARE + SPARE or self.weight > BYTES_EACH * live + BYTES_EACH

    def clear(self) -> None:
        """Start counting anew, after a rebuild."""
        self.count = self.weight = 0
