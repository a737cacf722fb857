"""Near tiers, and the policies by which they evict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tiercache.entry import Entry


class Policy(Protocol):
    """Decides which entries a near tier gives up.

    It makes the dictionary of entries; the near tier is its only writer, and calls the policy under its
    lock; the kernel reads it directly. A policy knows no TTL, no tags, no locks and no segments.

    Room is made first: `victims`, then the new entry is put into `entries`, then `added`. Writing a key
    that is held changes its entry in place and is told to policies that are `Renews` alone.
    """

    entries: dict[str, Entry]
    """Made here, empty; written by the tier alone. A tier that is cleared builds a new policy."""
    touch: Callable[[str], object] | None
    """Called with the key at each hit, without the lock; may raise KeyError. None: `Entry.hits` is enough."""

    def added(self, entry: Entry) -> None:
        """Take note of *entry*, which has just been put into `entries`."""
        ...

    def removed(self, entry: Entry) -> None:
        """Forget *entry*, which was deleted or has expired. Never called for the policy's own victims."""
        ...

    def victims(self, count: int, weight: int) -> list[Entry]:
        """Choose at least *count* entries that weigh at least *weight* together, or all there are.

        They leave the policy's books here (`place` is 0 again) and `entries` in the tier, right after.
        """
        ...


@runtime_checkable
class Renews(Protocol):
    """A policy that wants to know when a resident was given a new value and life in place."""

    def renewed(self, entry: Entry) -> None:
        """Take note that *entry*, which the policy holds, was written again. Under the tier's lock."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """What a policy evicts first, for tiers that keep rows.

    Written over these columns, all integers and never NULL: `created` (microseconds, when the row was
    written), `last_read` (microseconds; begins as `created`), `reads` (since the row was written; begins
    at 0), `expires` (microseconds; `NEVER` for none), `size` (bytes).

    A rewrite of a key leaves `created` and `reads` as they are and counts as a read for `last_read`.

    To evict, a tier takes the first rows by `by`, a chunk at a time. Of a chunk, the rows that `spared`
    holds for are updated with `chance`, which moves them back in the order; the others go. It repeats that
    until enough has gone. Because a row is spared only a few times (counts halve), this ends; a tier that
    wants a bound drops rows whether spared or not once it has spared 32 for each that it had to drop.
    """

    by: tuple[str, ...]
    """Terms of an ORDER BY, ascending, first to go first; each is a column or an expression without
    parameters, so that one index over the terms (with the key behind) serves the whole order.
    """
    spared: str = ""
    """An SQL condition for rows that get another chance instead of going; "" where none do."""
    chance: str = ""
    """Assignments for spared rows, the right side of SET. `:now` is the time in microseconds. Repeated, it
    must end in `spared` being false.
    """


class NearTier(Protocol):
    """Entries as objects in this process. Everything is synchronous, nothing blocks.

    Safe from several threads: reads take no lock, writes take the tier's own.
    """

    entries: dict[str, Entry] | None
    """The dictionary itself, which the kernel reads. None where the tier has segments."""
    segments: tuple[dict[str, Entry], ...] | None
    """A power of two of dictionaries; a key is in `segments[hash(key) & (len(segments) - 1)]`."""
    touch: Callable[[str], object] | None
    """Called by the kernel with the key of each hit, where the policy wants it; may raise KeyError."""
    max_ttl: float
    """Seconds; `math.inf` where there is no limit. The kernel clamps with it."""

    def get(self, key: str) -> Entry | None:
        """Return the entry of *key*, fresh or not."""
        ...

    def put(self, entry: Entry, tags: Sequence[str] = ()) -> Entry:
        """Store *entry*, unless the resident of its key has a later `created_at`; evict where needed.

        The resident is updated in place. Return whatever now stands.
        """
        ...

    def remove(self, key: str) -> bool:
        """Drop *key*; return whether it was there."""
        ...

    def keys(self) -> Iterable[str]:
        """Return the keys held at this moment, in chunks that never block for long."""
        ...

    def tagged(self, tag: str) -> Iterable[str]:
        """Return the keys that carry *tag*."""
        ...

    def tags(self, key: str) -> Sequence[str]:
        """Return the tags of *key*."""
        ...

    def work(self, now: float, budget: float) -> bool:
        """Do at most *budget* seconds of housekeeping (dead entries out, old dictionaries apart).

        *now* is `Clock.monotonic`. Return whether more is waiting.
        """
        ...

    def clear(self) -> None:
        """Drop everything in O(1). The kernel reads `entries`, `segments` and `touch` again afterwards."""
        ...

    def stats(self) -> Mapping[str, int]:
        """Return counts: `entries`, `bytes`, `evicted`, `expired`, `hits` and what else the tier knows."""
        ...


@runtime_checkable
class Fills(Protocol):
    """A near tier that takes many entries at once, in less time than one by one."""

    def put_many(self, entries: Sequence[Entry]) -> None:
        """Store *entries*, none of which has tags, each as `NearTier.put` does."""
        ...
