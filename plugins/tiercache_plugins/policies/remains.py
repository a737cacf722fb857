"""How queues get rid of entries that were deleted or have expired while they waited in the middle."""

from __future__ import annotations

from collections import deque
from typing import Final

from tiercache import Entry

EVERY: Final = 32
STEPS: Final = 12
"""Entries looked at for each that was removed, 32 removals at a time."""
MOST: Final = 4096
"""Entries looked at in one call: under a millisecond."""
BYTES: Final = 512
"""Bytes that count as one more removal, so that a large value is not kept for the sake of small ones."""


class Remains:
    """Says when to look for the dead, and for how long.

    A queue can't give up its middle at once: a removed entry keeps its place, and its value its memory.
    So while more than an eighth of a queue is dead, some of it is looked through with each few removals.
    That is a little at a time, as rebuilding a queue of thousands in one go would take milliseconds.
    """

    __slots__ = ("_debt",)

    def __init__(self) -> None:
        self._debt = 0

    def owed(self, entry: Entry, live: int, standing: int) -> int:
        """Return how many entries to look at now that *entry* was removed.

        *live* are held, *standing* is how many places they and the dead take.
        """
        self._debt += 1 + entry.weight // BYTES
        if self._debt < EVERY:
            return 0
        debt, self._debt = self._debt, 0
        if standing - live > live // 8 + EVERY or debt > 2 * EVERY:
            return min(STEPS * debt, MOST)
        return 0


def compact(queue: deque[Entry], at: int, steps: int, place: int = 0) -> int:
    """Drop the dead among *steps* entries of *queue* from position *at*; return the position behind them.

    Dead is whose `place` is 0 or, where *place* is given, another one. The order stays; at the end it goes on
    from the start. Rotating moves pointers by blocks and touches no entry, so it costs next to nothing.
    """
    steps = min(steps, len(queue))
    while steps and queue:
        if at >= len(queue):
            at = 0
        span = min(steps, len(queue) - at)
        steps -= span
        queue.rotate(-at)
        for _ in range(span):
            entry = queue.popleft()
            if entry.place == place if place else entry.place:
                queue.append(entry)
                at += 1
        queue.rotate(at)
    return at
