"""An eviction policy that looks at nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Literal

from pydantic import Field

from tiercache import Entry, Policy, PolicyConfig, hookimpl


class DiceConfig(PolicyConfig):
    """Evicts by chance: better than it sounds, and nothing to keep books of."""

    type: Literal["dice"] = "dice"
    seed: int | None = Field(None, description="Where chance begins; nothing for anew each time.")

    def build(self, capacity: int) -> Policy:
        """Return a new policy."""
        del capacity
        return Dice(random.Random(self.seed))


class Dice:
    """All entries in a list; `place` is where an entry stands in it, counted from 1."""

    def __init__(self, chance: random.Random) -> None:
        self.entries: dict[str, Entry] = {}
        self.touch: Callable[[str], object] | None = None
        self._all: list[Entry] = []
        self._chance = chance

    def added(self, entry: Entry) -> None:
        """Put *entry* at the end of the list."""
        self._all.append(entry)
        entry.place = len(self._all)

    def removed(self, entry: Entry) -> None:
        """Put the last entry in the place of *entry*."""
        last = self._all.pop()
        if last is not entry:
            self._all[entry.place - 1] = last
            last.place = entry.place
        entry.place = 0

    def victims(self, count: int, weight: int) -> list[Entry]:
        """Throw the dice until enough has gone."""
        chosen: list[Entry] = []
        while self._all and (count > 0 or weight > 0):
            entry = self._chance.choice(self._all)
            self.removed(entry)
            chosen.append(entry)
            count -= 1
            weight -= entry.weight
        return chosen


@hookimpl
def tiercache_policies() -> Iterable[type[PolicyConfig]]:
    """Return the policy of this module."""
    return [DiceConfig]
