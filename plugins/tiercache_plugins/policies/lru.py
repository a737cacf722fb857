"""Least recently used: exact, and explainable to anybody."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import ClassVar, Literal

from tiercache import Entry, Order, Policy, PolicyConfig, hookimpl


class LruConfig(PolicyConfig):
    """Evicts what has not been read or written for the longest time. Exact, at the price of a call a hit."""

    type: Literal["lru"] = "lru"

    order: ClassVar[Order | None] = Order(by=("last_read",))
    # An OrderedDict that grows looks every key up again: 1.8 ms for 4,096 cold ones, 1.1 ms for half.
    segment: ClassVar[int] = 2048

    def build(self, capacity: int) -> Policy:
        """Return a new policy."""
        del capacity
        return LruPolicy()


class LruPolicy:
    """Keeps the order in the dictionary of entries itself."""

    __slots__ = ("_order", "entries", "touch")

    def __init__(self) -> None:
        self._order: OrderedDict[str, Entry] = OrderedDict()
        self.entries: dict[str, Entry] = self._order
        self.touch: Callable[[str], object] | None = self._order.move_to_end

    def added(self, entry: Entry) -> None:
        """Mark *entry* as held; the dictionary has put it last."""
        entry.place = 1

    def renewed(self, entry: Entry) -> None:
        """Put *entry* last: a write is a use."""
        self._order.move_to_end(entry.key)

    def removed(self, entry: Entry) -> None:
        """Mark *entry* as gone."""
        entry.place = 0

    def victims(self, count: int, weight: int) -> list[Entry]:
        """Choose what was used least recently."""
        order = self._order
        chosen: list[Entry] = []
        left = len(order)
        while left and (count > 0 or weight > 0):
            # Readers move keys without the lock, which breaks an iterator that is kept; so it is always
            # the first entry that is looked at, and then put out of the way.
            entry = _first(order)
            order.move_to_end(entry.key)
            if entry.place:
                entry.place = 0
                chosen.append(entry)
                left -= 1
                count -= 1
                weight -= entry.weight
        return chosen


def _first(order: OrderedDict[str, Entry]) -> Entry:
    # Not next(iter(…)): between the two calls another thread may run. Between the start of a loop and its
    # first turn none does.
    for entry in order.values():
        return entry
    raise LookupError("no entry")


@hookimpl
def tiercache_policies() -> list[type[PolicyConfig]]:
    """Return the policy of this module."""
    return [LruConfig]
