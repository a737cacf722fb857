"""What expires soonest goes first."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import ClassVar, Final, Literal

from tiercache import NEVER, Entry, Order, Policy, PolicyConfig, hookimpl
from tiercache_plugins.policies.remains import Remains, compact

MOVES: Final = 1000
"""Entries that one call may file anew before it takes what stands first: about a millisecond."""
CROWD: Final = 64
"""Entries of one moment from which a deque is smaller and faster than a list."""


class TtlConfig(PolicyConfig):
    """Evicts what would expire soonest anyway; what never expires goes last, oldest first."""

    type: Literal["ttl"] = "ttl"

    order: ClassVar[Order | None] = Order(by=("expires", "created"))

    def build(self, capacity: int) -> Policy:
        """Return a new policy."""
        del capacity
        return TtlPolicy()


class TtlPolicy:
    """A heap of milliseconds, and for each the entries that are filed under it.

    Most entries are alone in their millisecond and stand there without a list of their own. `Entry.place`
    is the millisecond under which an entry is filed; where its life was lengthened since, it is filed
    anew when its turn comes, and where it was shortened, at once.
    """

    __slots__ = ("_at", "_moments", "_order", "_remains", "entries", "touch")

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.touch: Callable[[str], object] | None = None
        self._moments: dict[int, Entry | list[Entry] | deque[Entry]] = {}
        self._order: list[int] = []
        self._remains = Remains()
        self._at = 0

    def _file(self, entry: Entry) -> None:
        entry.place = moment = _moment(entry)
        moments = self._moments
        filed = moments.get(moment)
        if filed is None:
            moments[moment] = entry
            heappush(self._order, moment)
        elif isinstance(filed, Entry):
            moments[moment] = [filed, entry]
        else:
            filed.append(entry)
            if len(filed) == CROWD and isinstance(filed, list):
                moments[moment] = deque(filed)

    def _unfile(self, entry: Entry) -> None:
        """Take *entry* away from its moment, at once or, out of a crowd, in a while."""
        moment, entry.place = entry.place, 0
        filed = self._moments[moment]
        if isinstance(filed, deque):
            # How many of them are dead isn't counted: half of what stands is a guess that ends.
            if steps := self._remains.owed(entry, len(filed) // 2, len(filed)):
                self._at = compact(filed, self._at, steps, moment)
        elif isinstance(filed, list):
            filed.remove(entry)
        if filed is entry or not filed:
            del self._moments[moment]
            if len(self._order) > 2 * len(self._moments) + CROWD:
                self._order = sorted(self._moments)

    def added(self, entry: Entry) -> None:
        """File *entry* under its expiry."""
        self._file(entry)

    def renewed(self, entry: Entry) -> None:
        """File *entry* anew where it now expires sooner."""
        if _moment(entry) < entry.place:
            self._unfile(entry)
            self._file(entry)

    def removed(self, entry: Entry) -> None:
        """Forget *entry*."""
        self._unfile(entry)

    def _first(self) -> tuple[int, Entry] | None:
        """Take out the first that is filed; None where the first moment is empty by now."""
        moment = self._order[0]
        filed = self._moments.get(moment)
        if filed is None:
            heappop(self._order)
            return None
        if isinstance(filed, Entry):
            entry = filed
        else:
            entry = filed.pop(0) if isinstance(filed, list) else filed.popleft()
        if filed is entry or not filed:
            heappop(self._order)
            del self._moments[moment]
        return moment, entry

    def victims(self, count: int, weight: int) -> list[Entry]:
        """Choose what expires soonest, to the millisecond."""
        chosen: list[Entry] = []
        moves = MOVES
        while self._order and (count > 0 or weight > 0):
            first = self._first()
            if first is None:
                continue
            moment, entry = first
            if entry.place != moment:
                continue
            if moves and _moment(entry) > moment:
                moves -= 1
                self._file(entry)
                continue
            entry.place = 0
            chosen.append(entry)
            count -= 1
            weight -= entry.weight
        return chosen


def _moment(entry: Entry) -> int:
    """Return when *entry* expires, in milliseconds; never 0, which would say that no policy holds it."""
    expiry = entry.fresh_until
    if expiry == math.inf:
        return NEVER
    return max(int(expiry * 1000), 1) if expiry > 0 else 1


@hookimpl
def tiercache_policies() -> list[type[PolicyConfig]]:
    """Return the policy of this module."""
    return [TtlConfig]
