"""The live memory tier: bounds, renewal in place, and housekeeping in slices."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from threading import get_ident
from time import perf_counter

from tiercache import Entry, PolicyConfig
from tiercache_plugins.tiers.memory.pen import Pen
from tiercache_plugins.tiers.memory.segment import NO_TAGS, Segment, segments
from tiercache_plugins.tiers.memory.sweep import Sweep, dismantle
from tiercache_plugins.tiers.memory.weight import weigh


class MemoryTier:
    """Entries in dictionaries that the kernel reads, each with a policy of its own.

    All writers take one pen: under the GIL they could not run at the same time anyhow.
    """

    __slots__ = (
        "_build", "_bytes", "_capacity", "_evicted", "_expired", "_free", "_mask", "_max_bytes",
        "_max_entries", "_parts", "_pen", "_refused", "_retired", "_sweep", "_touches", "entries", "max_ttl",
        "segments", "touch",
    )  # fmt: skip

    def __init__(
        self, policy: PolicyConfig, max_entries: int, max_bytes: int | None = None, max_ttl: float = math.inf
    ) -> None:
        count = segments(policy, max_entries)
        self.max_ttl = max_ttl
        self._build = policy.build
        self._capacity = -(-max_entries // count)
        self._mask = count - 1
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._pen = Pen()
        self._evicted = self._expired = self._refused = 0
        self._retired: list[Segment] = []
        self._parts: tuple[Segment, ...]
        self.entries: dict[str, Entry] | None
        self.segments: tuple[dict[str, Entry], ...] | None
        self.touch: Callable[[str], object] | None
        self._begin()

    def _begin(self) -> None:
        parts = tuple(Segment(self._build(self._capacity)) for _ in range(self._mask + 1))
        self._parts = parts
        self._free = self._max_entries
        self._bytes = 0
        self._sweep = Sweep(parts)
        self._touches = tuple(touch for part in parts if (touch := part.policy.touch) is not None)
        if self._mask:
            self.entries = None
            self.segments = tuple(part.entries for part in parts)
            self.touch = self._dispatch if self._touches else None
        else:
            self.entries = parts[0].entries
            self.segments = None
            self.touch = parts[0].policy.touch

    def _dispatch(self, key: str) -> object:
        return self._touches[hash(key) & self._mask](key)

    def get(self, key: str) -> Entry | None:
        """Return the entry of *key*, fresh or not."""
        return self._parts[hash(key) & self._mask].entries.get(key)

    def put(self, entry: Entry, tags: Sequence[str] = ()) -> Entry:
        """Store *entry* and return what now stands under its key.

        A resident with a later `created_at` stays; any other is updated in place. What alone weighs more
        than `max_bytes` is not stored (what it would have replaced goes), and *entry* is returned as it is.
        An entry that was dropped must not be put again.
        """
        key = entry.key
        bounded = self._max_bytes is not None
        if bounded:
            entry.weight = weigh(key, entry.value)
        # Kept to the end, as finalizers are best run when all is done.
        gone: list[Entry] | None = None
        pen, me = self._pen, get_ident()
        try:
            del pen.free[0]
        except IndexError:
            if not pen.wait(partial(self.put, entry, tags)):
                return entry
        pen.holder = me
        try:
            at = hash(key) & mask if (mask := self._mask) else 0
            part = self._parts[at]
            entries = part.entries
            if (free := self._free) > 0 and not bounded:
                # One look-up in place of two.
                resident: Entry | None = entries.setdefault(key, entry)
                entered = resident is entry and not entry.place
            else:
                resident = entries.get(key)
                entered = False
            if entered:
                self._free = free - 1
            else:
                if resident is not None:
                    gone = []
                    replaced = resident.value  # noqa: F841 - likewise
                    if self._renew(at, resident, entry, tags, gone):
                        return resident
                if bounded:
                    gone = gone or []
                    if not self._fits(1, entry.weight) and not self._make_room(at, 1, entry.weight, gone):
                        self._refused += 1
                        return entry
                    self._bytes += entry.weight
                    self._free -= 1
                # What `_make_room` does, without its generality: this is the way of most writes.
                elif gone := part.victims(1, 0):
                    part.drop(gone)
                    freed = len(gone)
                    self._free = freed - 1
                    self._evicted += freed
                else:
                    gone = []
                    if not self._make_room(at, 1, 0, gone):
                        self._refused += 1
                        return entry
                    self._free -= 1
                entries[key] = entry
            part.added(entry)
            if tags:
                part.tag(key, tags)
        finally:
            pen.holder = 0
            pen.free.append(None)
            if pen.later:
                pen.catch_up()
        return entry

    def put_many(self, entries: Sequence[Entry]) -> None:
        """Store *entries*, each as `put` does, with one turn of the pen and one search for room."""
        others: Sequence[Entry] = entries
        # Kept to the end, as in `put`.
        gone: list[Entry] = []
        # A tier that would have to give an eighth of itself for them chooses anew for each.
        if entries and self._max_bytes is None and len(entries) * 8 <= self._max_entries:
            if not self._pen.take(partial(self.put_many, entries)):
                return
            try:
                others = self._enter(entries, gone)
            finally:
                self._pen.give()
        for entry in others:
            self.put(entry)

    def _enter(self, entries: Sequence[Entry], gone: list[Entry]) -> list[Entry]:
        """Put those of *entries* into the dictionaries whose keys are not there, and return the others."""
        parts, mask = self._parts, self._mask
        part = parts[at := hash(entries[0].key) & mask]
        if self._free < len(entries):
            self._make_room(at, len(entries), 0, gone)
        free = self._free
        others = []
        for entry in entries:
            key = entry.key
            if mask:
                part = parts[hash(key) & mask]
            if free and part.entries.setdefault(key, entry) is entry and not entry.place:
                free -= 1
                self._free = free
                part.added(entry)
            else:
                others.append(entry)
        return others

    def _fits(self, count: int, weight: int) -> bool:
        return self._free >= count and (self._max_bytes is None or self._bytes + weight <= self._max_bytes)

    def _renew(self, at: int, resident: Entry, entry: Entry, tags: Sequence[str], gone: list[Entry]) -> bool:
        """Update *resident* with *entry* where that is newer; return whether *resident* stands."""
        if entry is resident or entry.created_at < resident.created_at:
            return True
        part = self._parts[at]
        growth = entry.weight - resident.weight
        if growth > 0 and not self._fits(0, growth):
            gone.append(resident)
            if entry.weight > (self._max_bytes or 0):
                part.removed(resident)
                self._drop(part, [resident])
                return False
            self._make_room(at, 0, growth, gone)
            if part.entries.get(entry.key) is not resident:
                return False
        resident.value = entry.value
        resident.created_at = entry.created_at
        if resident.terms is not entry.terms:
            resident.terms.hits += resident.hits
            resident.hits = 0
            resident.terms = entry.terms
        self._bytes += growth
        resident.weight = entry.weight
        # Last, so that no reader takes the old value for fresh.
        resident.fresh_until = entry.fresh_until
        if part.renewed is not None:
            part.renewed(resident)
        if tags or part.tags:
            part.tag(entry.key, tags)
        return True

    def _make_room(self, at: int, count: int, weight: int, gone: list[Entry]) -> bool:
        """Evict until *count* more entries of *weight* fit; return whether they do.

        From the part *at* first: keys spread evenly, so that keeps all parts about as full. Where it has
        too little to give, the others follow.
        """
        limit = sys.maxsize if self._max_bytes is None else self._max_bytes
        if weight > limit:
            return False
        for turn in range(self._mask + 1):
            giving = self._parts[(at + turn) & self._mask]
            if not giving.entries:
                continue
            victims = giving.victims(max(count - self._free, 0), max(self._bytes + weight - limit, 0))
            self._drop(giving, victims)
            self._evicted += len(victims)
            gone += victims
            if self._fits(count, weight):
                return True
        return False

    def _drop(self, part: Segment, entries: list[Entry]) -> None:
        part.drop(entries)
        self._free += len(entries)
        if self._max_bytes is not None:
            self._bytes -= sum([entry.weight for entry in entries])

    def remove(self, key: str) -> bool:
        """Drop *key*; return whether it was there."""
        if not self._pen.take(partial(self.remove, key)):
            return self.get(key) is not None
        try:
            part = self._parts[hash(key) & self._mask]
            entry = part.entries.get(key)
            if entry is None:
                return False
            part.removed(entry)
            self._drop(part, [entry])
        finally:
            self._pen.give()
        return True

    def keys(self) -> Iterator[str]:
        """Yield the keys, from a snapshot of one dictionary after the other.

        A key that is held all the while is yielded; one that comes or goes meanwhile may be.
        """
        for part in self._parts:
            yield from list(part.entries)

    def tagged(self, tag: str) -> Iterator[str]:
        """Yield the keys that carry *tag*, from a snapshot of one dictionary after the other."""
        for part in self._parts:
            yield from list(part.tagged.get(tag, NO_TAGS))

    def tags(self, key: str) -> Sequence[str]:
        """Return the tags of *key*; none where the key is not held."""
        return self._parts[hash(key) & self._mask].tags.get(key, NO_TAGS)

    def work(self, now: float, budget: float) -> bool:
        """Take cleared dictionaries apart, then sweep out what is dead, for about *budget* seconds.

        A sweep looks at every entry, 256 at a time; then it rests for twenty times as long as it took, or a
        hundred times where nothing was dead. *now* is `Clock.monotonic`, *budget* real time. Return whether
        something is left to do now.
        """
        deadline = perf_counter() + budget
        while self._retired:
            gone = self._dismantle()
            if perf_counter() >= deadline:
                return bool(gone) or bool(self._retired) or self._sweep.due(now)
        sweep = self._sweep
        if not sweep.due(now):
            return False
        began = perf_counter()
        while sweep.running:
            gone = self._advance(now)
            if perf_counter() >= deadline:
                break
        sweep.paused(now, perf_counter() - began)
        return sweep.running

    def _dismantle(self) -> list[Entry]:
        if not self._pen.take():
            # From a finalizer: nothing to be gained by starting over.
            return []
        try:
            return dismantle(self._retired)
        finally:
            self._pen.give()

    def _advance(self, now: float) -> list[Entry]:
        """Do one step of the sweep, and return what it dropped."""
        if not self._pen.take():
            # Likewise.
            return []
        try:
            sweep = self._sweep
            part, dead = sweep.step(now)
            for entry in dead:
                part.removed(entry)
            self._drop(part, dead)
            self._expired += len(dead)
        finally:
            self._pen.give()
        return dead

    def clear(self) -> None:
        """Drop everything, by starting with new dictionaries; `work` takes the old ones apart."""
        if not self._pen.take(self.clear):
            return
        try:
            self._retired += [part for part in self._parts if part.entries]
            self._begin()
        finally:
            self._pen.give()

    def stats(self) -> Mapping[str, int]:
        """Return `entries`, `bytes` (0 where nothing bounds them), `evicted`, `expired`, `refused`, `hits`.

        `hits` is the sum over the entries held, found by looking at each: some 40 ns an entry. Together
        with `Terms.hits` it is the number of all hits.
        """
        hits = 0
        for part in (*self._parts, *self._retired):
            hits += sum([entry.hits for entry in list(part.entries.values())])
        return {
            "entries": self._max_entries - self._free,
            "bytes": self._bytes,
            "evicted": self._evicted,
            "expired": self._expired,
            "refused": self._refused,
            "hits": hits,
        }
