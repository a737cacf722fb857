"""First in, first out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import ClassVar, Literal

from tiercache import Entry, Order, Policy, PolicyConfig, hookimpl
from tiercache_plugins.policies.remains import Remains, compact


class FifoConfig(PolicyConfig):
    """Evicts what was put in first, whether it is read or not."""

    type: Literal["fifo"] = "fifo"

    order: ClassVar[Order | None] = Order(by=("created",))

    def build(self, capacity: int) -> Policy:
        """Return a new policy."""
        del capacity
        return FifoPolicy()


class FifoPolicy:
    """One queue. A key that is written again keeps its place in it."""

    __slots__ = ("_at", "_live", "_queue", "_remains", "entries", "touch")

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.touch: Callable[[str], object] | None = None
        # Not the dictionary's own order: a dict whose first keys are always deleted takes ever longer to
        # find the first one left.
        self._queue: deque[Entry] = deque()
        self._at = 0
        self._live = 0
        self._remains = Remains()

    def added(self, entry: Entry) -> None:
        """Put *entry* last."""
        entry.place = 1
        self._queue.append(entry)
        self._live += 1

    def removed(self, entry: Entry) -> None:
        """Forget *entry*."""
        entry.place = 0
        self._live -= 1
        if steps := self._remains.owed(entry, self._live, len(self._queue)):
            self._at = compact(self._queue, self._at, steps)

    def victims(self, count: int, weight: int) -> list[Entry]:
        """Choose what came first."""
        chosen: list[Entry] = []
        queue = self._queue
        while queue and (count > 0 or weight > 0):
            entry = queue.popleft()
            if entry.place:
                entry.place = 0
                chosen.append(entry)
                count -= 1
                weight -= entry.weight
        self._live -= len(chosen)
        return chosen


@hookimpl
def tiercache_policies() -> list[type[PolicyConfig]]:
    """Return the policy of this module."""
    return [FifoConfig]
