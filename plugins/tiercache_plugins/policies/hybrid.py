"""The default policy: recency and frequency together, at the price of one integer a hit.

Entries wait in a small queue, whose newest quarter is a nursery; what was read after it left the nursery
goes to the main queue, the rest goes. The main queue is a CLOCK with counts up to three. That much is
S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023) with the correlation
window of 2Q (Johnson and Shasha, VLDB 1994). What is added: the share of the small queue tunes itself by
the keys that come back soon after either queue gave them up, in the manner of ARC (Megiddo and Modha, FAST
2003); and while the cache fills for the first time, what flows out of the small queue fills the main one,
so that a loop longer than the cache still hits.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Final, Literal

from tiercache import Entry, Order, Policy, PolicyConfig, hookimpl
from tiercache_plugins.policies.remains import Remains, compact

SMALL: Final = 1
MAIN: Final = 2
"""Values of `Entry.place`; the nursery is part of the small queue."""

SCANS: Final = 32
"""Entries that may be spared for each that goes: what bounds one call where everything was read."""
COUNT_CAP: Final = 3
GHOSTS_MORE: Final = 1024
"""Slots beyond two for each ghost: small tables, where one ghost lost to another weighs most, get more."""
FINGERPRINT: Final = 0x3FFFFFFF
"""Thirty bits: what the interpreter adds and divides in one step, a tenth of an insertion faster than 32."""
LAST_STAMP: Final = 2**30
"""Of ghosts; after it they are forgotten, before numbers get slow, and long before they outgrow the array."""


class HybridConfig(PolicyConfig):
    """Evicts what was read once before what is read again and again, and tunes itself between the two."""

    type: Literal["hybrid"] = "hybrid"

    order: ClassVar[Order | None] = Order(
        by=("reads > 0", "last_read"), spared="reads > 1", chance="reads = reads / 2, last_read = :now"
    )

    def build(self, capacity: int) -> Policy:
        """Return a policy for *capacity* entries."""
        return HybridPolicy(capacity)


class HybridPolicy:
    """Three queues, and a table of fingerprints of what went lately.

    The effective capacity is the number of entries held when room has to be made, so a tier that is
    bounded by bytes tunes alike.
    """

    __slots__ = (
        "_at_main", "_at_nursery", "_at_small", "_batch", "_ghosts", "_held", "_in_main", "_in_small",
        "_main", "_main_age", "_main_window", "_marks", "_near", "_nursery", "_remains", "_small",
        "_small_age", "_small_window", "_stamps", "_step", "_target", "_warm", "entries", "touch",
    )  # fmt: skip

    def __init__(self, capacity: int) -> None:
        self.entries: dict[str, Entry] = {}
        self.touch: Callable[[str], object] | None = None
        self._nursery: deque[Entry] = deque()
        self._small: deque[Entry] = deque()
        self._main: deque[Entry] = deque()
        self._in_small = 0
        self._in_main = 0
        self._remains = Remains()
        self._at_nursery = self._at_small = self._at_main = 0
        self._warm = True
        # The table is made when the first entry has to go: a bound that is never reached costs nothing.
        self._ghosts = 0
        self._marks: array[int] = array("I")
        self._stamps: array[int] = array("I")
        """Of ghosts: even where the small queue gave them up, odd where the main one did; 0: none."""
        # Counted in steps of two. An array of unsigned integers takes half the time of a signed one to write.
        self._small_age, self._main_age = 2, 1
        self._target = 0.0
        self._fit(max(capacity, 1))

    def _fit(self, held: int) -> None:
        """Take *held* as the capacity."""
        self._held = held
        self._small_window = int(0.9 * held)
        self._near = self._main_window = max(4, held // 8)
        self._step = 1.0 + held / 5000
        self._batch = min(max(held // 256, 1), 32)
        self._target = min(max(self._target, 1.0, 0.01 * held), 0.95 * held)

    def _refit(self, held: int) -> None:
        """Take *held* as the capacity from now on; see that the ghosts have room."""
        if self._warm:
            self._warm = False
            self._target = 0.05 * held
        self._fit(max(held, 1))
        if self._small_window + self._main_window > self._ghosts:
            self._haunt()

    def _haunt(self) -> None:
        """Make a table of ghosts for the present capacity."""
        self._ghosts = _prime(2 * (self._small_window + self._main_window) + GHOSTS_MORE)
        self._marks = array("I", bytes(4 * self._ghosts))
        self._stamps = array("I", bytes(4 * self._ghosts))
        self._small_age, self._main_age = 2, 1

    def added(self, entry: Entry) -> None:
        """Put *entry* into the nursery, or into the main queue where it went too early the last time."""
        if self._warm:
            if self._in_small >= 0.05 * (self._in_small + self._in_main) + 1:
                self._overflow()
        else:
            mark = hash(entry.key) & FINGERPRINT
            slot = mark % self._ghosts
            if self._marks[slot] == mark and self._recall(slot):
                entry.place = MAIN
                self._main.append(entry)
                self._in_main += 1
                return
        entry.place = SMALL
        self._nursery.append(entry)
        self._in_small += 1

    def _overflow(self) -> None:
        """Move the oldest of the small queue to the main one: nothing has had to go yet."""
        for queue in (self._small, self._nursery):
            while queue:
                entry = queue.popleft()
                if entry.place:
                    entry.terms.hits += entry.hits
                    entry.hits = 0
                    entry.place = MAIN
                    self._main.append(entry)
                    self._in_small -= 1
                    self._in_main += 1
                    return

    def _recall(self, slot: int) -> bool:
        """Learn from a key that came back; return whether it belongs into the main queue."""
        stamp = self._stamps[slot]
        if not stamp:
            return False
        self._stamps[slot] = 0
        if stamp & 1:
            age = (self._main_age - stamp) >> 1
            if age <= self._near:
                self._target = max(self._target - self._step, 1.0, 0.01 * self._held)
            return age <= self._main_window
        age = (self._small_age - stamp) >> 1
        if age <= self._near:
            self._target = min(self._target + self._step, 0.95 * self._held)
        return age <= self._small_window

    def _settle(self, surplus: int, most: int) -> None:
        """Let the *surplus* of the nursery go on into the small queue, at most so many.

        Reads right after a write come in bursts and mean little: a count begins when an entry leaves the
        nursery. Four for each that is to go keep up, and bound the step.
        """
        nursery, small = self._nursery, self._small
        for _ in range(min(surplus, most)):
            entry = nursery.popleft()
            if entry.place:
                if entry.hits:
                    entry.terms.hits += entry.hits
                    entry.hits = 0
                small.append(entry)

    def removed(self, entry: Entry) -> None:
        """Forget *entry*. No ghost: it did not go for want of room."""
        if entry.place == SMALL:
            self._in_small -= 1
        else:
            self._in_main -= 1
        entry.place = 0
        live = self._in_small + self._in_main
        standing = len(self._nursery) + len(self._small) + len(self._main)
        if steps := self._remains.owed(entry, live, standing):
            self._compact(steps)

    def _compact(self, steps: int) -> None:
        """Look for the dead in *steps* entries of the queue that has most of them."""
        if len(self._main) - self._in_main > len(self._nursery) + len(self._small) - self._in_small:
            self._at_main = compact(self._main, self._at_main, steps)
        else:
            self._at_small = compact(self._small, self._at_small, steps)
            self._at_nursery = compact(self._nursery, self._at_nursery, steps)

    def victims(self, count: int, weight: int) -> list[Entry]:
        """Choose from the small queue while it is above its target, else from the main one.

        A few more than asked for (one in 256, at most 32) go at a time: it saves a quarter of the cost of
        an insertion and no hit ratio that could be measured.
        """
        in_small, in_main = self._in_small, self._in_main
        held = in_small + in_main
        if held != self._held or self._warm:
            self._refit(held)
        nursery, small, main = self._nursery, self._small, self._main
        marks, stamps, ghosts = self._marks, self._stamps, self._ghosts
        small_age, main_age = self._small_age, self._main_age
        # Integers compare in a third of the time that an integer and a float take.
        least = math.ceil(self._target)
        count = max(count, self._batch)
        budget = SCANS * count
        chosen: list[Entry] = []
        if in_small >= least:
            # All at once: one at a time, between the victims, takes a tenth of an insertion more.
            self._settle(len(nursery) - (in_small >> 2), 4 * count)
        while in_small or in_main:
            if in_small >= least or not in_main:
                if small:
                    entry = small.popleft()
                else:
                    self._settle(len(nursery) - (in_small >> 2), 4)
                    entry = small.popleft() if small else nursery.popleft()
                if not entry.place:
                    continue
                in_small -= 1
                if entry.hits and budget:
                    budget -= 1
                    entry.terms.hits += entry.hits
                    entry.hits = 0
                    entry.place = MAIN
                    main.append(entry)
                    in_main += 1
                    continue
                stamp = small_age = small_age + 2
            else:
                entry = main.popleft()
                if not entry.place:
                    continue
                if (hits := entry.hits) and budget:
                    budget -= 1
                    spent = 1 if hits <= COUNT_CAP else hits - COUNT_CAP + 1
                    entry.terms.hits += spent
                    entry.hits -= spent
                    main.append(entry)
                    continue
                in_main -= 1
                stamp = main_age = main_age + 2
            mark = hash(entry.key) & FINGERPRINT
            slot = mark % ghosts
            marks[slot] = mark
            stamps[slot] = stamp
            entry.place = 0
            chosen.append(entry)
            count -= 1
            if weight:
                weight -= entry.weight
            if count <= 0 and weight <= 0:
                break
        self._in_small, self._in_main = in_small, in_main
        self._small_age, self._main_age = small_age, main_age
        if small_age > LAST_STAMP or main_age > LAST_STAMP:
            self._haunt()
        return chosen


def _prime(above: int) -> int:
    """Return the first prime not below *above*, so that hashes with a common factor spread."""
    candidate = max(above, 3) | 1
    while any(candidate % divisor == 0 for divisor in range(3, int(candidate**0.5) + 1, 2)):
        candidate += 2
    return candidate


@hookimpl
def tiercache_policies() -> list[type[PolicyConfig]]:
    """Return the policy of this module."""
    return [HybridConfig]
