"""Least frequently used, aged so that yesterday's favourites go.

With aging it is LFUDA (Arlitt et al., "Evaluating content management techniques for Web proxy caches",
2000): an entry ranks by its reads plus the rank of the last victim at the time it came or was looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import ClassVar, Final, Literal

from pydantic import Field

from tiercache import Entry, Order, Policy, PolicyConfig, hookimpl
from tiercache_plugins.policies.remains import Remains, compact

MOVES: Final = 1000
"""Entries that one call may rank anew before it takes what stands lowest: about a millisecond."""


class LfuConfig(PolicyConfig):
    """Evicts what is read least often."""

    type: Literal["lfu"] = "lfu"
    aging: bool = Field(
        True,
        description="Whether reads of long ago count less and less. Without it an entry that was read "
        "often once stays for ever.",
    )

    order: ClassVar[Order | None] = Order(by=("reads", "last_read"))

    def build(self, capacity: int) -> Policy:
        """Return a new policy."""
        del capacity
        return LfuPolicy(aging=self.aging)


class LfuPolicy:
    """One queue for each rank, looked at from the lowest.

    A read only raises the entry's count, so an entry may stand too low; that is put right when it comes
    to the front. `Entry.place` holds the rank that an entry without reads had when it was ranked, so rank
    less place is the number of reads that were known then.
    """

    __slots__ = (
        "_aging", "_at", "_live", "_order", "_ranks", "_remains", "_standing", "_start", "_unseen", "entries",
        "touch",
    )  # fmt: skip

    def __init__(self, *, aging: bool) -> None:
        self.entries: dict[str, Entry] = {}
        self.touch: Callable[[str], object] | None = None
        self._aging = aging
        self._start = 1
        self._ranks: dict[int, deque[Entry]] = {}
        self._order: list[int] = []
        self._live = 0
        self._standing = 0
        self._unseen: list[int] = []
        self._at = 0
        self._remains = Remains()

    def _rank(self, entry: Entry) -> None:
        entry.place = self._start
        rank = self._start + entry.hits
        queue = self._ranks.get(rank)
        if queue is None:
            queue = self._ranks[rank] = deque()
            heappush(self._order, rank)
        queue.append(entry)
        self._standing += 1

    def added(self, entry: Entry) -> None:
        """Rank *entry*."""
        self._live += 1
        self._rank(entry)

    def removed(self, entry: Entry) -> None:
        """Forget *entry*."""
        entry.place = 0
        self._live -= 1
        if steps := self._remains.owed(entry, self._live, self._standing):
            self._compact(steps)

    def _compact(self, steps: int) -> None:
        """Look for the dead in about *steps* entries, one rank after the other."""
        if not self._unseen:
            self._unseen = list(self._ranks)
        while self._unseen and steps > 0:
            queue = self._ranks.get(self._unseen[-1])
            if queue:
                at = self._at if self._at < len(queue) else 0
                span = min(steps, len(queue) - at)
                steps -= span
                self._standing -= len(queue)
                self._at = compact(queue, at, span)
                self._standing += len(queue)
            if not queue or self._at >= len(queue):
                self._unseen.pop()
                self._at = 0
            steps -= 1

    def victims(self, count: int, weight: int) -> list[Entry]:
        """Choose from the lowest rank, of equals those that have been there longest."""
        chosen: list[Entry] = []
        moves = MOVES
        order, ranks = self._order, self._ranks
        while order and (count > 0 or weight > 0):
            rank = order[0]
            queue = ranks[rank]
            if not queue:
                heappop(order)
                del ranks[rank]
                continue
            entry = queue.popleft()
            self._standing -= 1
            if not entry.place:
                continue
            if moves and entry.hits != rank - entry.place:
                moves -= 1
                self._rank(entry)
                continue
            if self._aging:
                self._start = rank + 1
            entry.place = 0
            chosen.append(entry)
            count -= 1
            weight -= entry.weight
        self._live -= len(chosen)
        return chosen


@hookimpl
def tiercache_policies() -> list[type[PolicyConfig]]:
    """Return the policy of this module."""
    return [LfuConfig]
