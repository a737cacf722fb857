"""Plain integers, raised where things happen, and the snapshot that `cache.stats()` gives of them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Self

from tiercache.keys import glob

OTHER: Final = "other"
"""The row of the keys that no declared pattern matches."""

REASONS: Final = (("evicted", "room"), ("expired", "expired"), ("refused", "refused"))
"""What tiers call it when they give entries up themselves, and why that is."""

STATE: Final = MappingProxyType({"state": True})
"""Metadata of fields that tell how things are, and not how often something happened."""


class FarCounts:
    """What one far tier did since the cache was opened."""

    __slots__ = (
        "bytes_read", "bytes_written", "calls", "corrupt", "deletes", "errors", "hits", "misses",
        "promotions", "seconds", "writes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.writes = 0
        self.deletes = 0
        self.promotions = 0
        """Entries copied into this tier because a farther one had them."""
        self.calls = 0
        """Batches that were sent, those that failed among them."""
        self.seconds = 0.0
        """Spent waiting for them."""
        self.bytes_read = 0
        self.bytes_written = 0
        self.errors = 0
        """Calls that failed, and were taken as a miss or a skipped write."""
        self.corrupt = 0
        """Frames that were not what they claimed to be: a miss and a deletion each."""


class PatternCounts:
    """What happened to the keys of one declared pattern."""

    __slots__ = ("hits", "loads", "misses")

    def __init__(self) -> None:
        self.hits = 0
        """Reads that a far tier answered."""
        self.misses = 0
        self.loads = 0


class Patterns:
    """The declared patterns of keys, in the order in which they are tried, and a row for each.

    Asked off the near path alone. However many keys there are, there
    is one row a pattern, and one for the rest.
    """

    __slots__ = ("_matches", "_names", "declared", "other", "rows")

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._names = tuple(dict.fromkeys(patterns))
        self.declared = bool(self._names)
        """Whether there is any."""
        self.rows = {pattern: PatternCounts() for pattern in (*self._names, OTHER)}
        """By pattern."""
        self.other = self.rows[OTHER]
        """The row of all keys, where no pattern is declared."""
        # One expression for all: alternatives are tried in their order, too, and several times faster.
        whole = "|".join(f"({glob(pattern).pattern})" for pattern in self._names)
        self._matches = re.compile(whole, re.DOTALL).fullmatch if whole else None

    def name(self, key: str) -> str:
        """Return the first pattern that matches *key*, else `OTHER`."""
        if self._matches is None or (found := self._matches(key)) is None:
            return OTHER
        return self._names[(found.lastindex or 1) - 1]

    def of(self, key: str) -> PatternCounts:
        """Return the row that *key* counts in."""
        return self.rows[self.name(key)]


class RouteCounts:
    """What happened on one route since the cache was opened."""

    __slots__ = (
        "far", "load_errors", "load_seconds", "loads", "misses", "near_hits", "near_misses",
        "near_promotions", "patterns", "refreshes", "sets", "stale_served",
    )  # fmt: skip

    def __init__(self) -> None:
        self.near_hits: dict[str, int] = {}
        """By pattern, as of the last snapshot: hits are counted on the entries."""
        self.near_misses = 0
        self.near_promotions = 0
        """Entries copied into the near tier because a far one had them."""
        self.misses = 0
        """Reads that no tier could answer."""
        self.loads = 0
        self.load_errors = 0
        self.load_seconds = 0.0
        self.sets = 0
        self.stale_served = 0
        """Callers who were given a stale copy, because a loader or every far tier failed or was slow."""
        self.refreshes = 0
        """Loads that were started while the entry was still fresh."""
        self.far: list[list[int]] = []
        """By far tier, in the order of the route: hits, misses, and reads that it could not answer."""
        self.patterns = Patterns()
        """The cache's own, once it is built."""

    def landed(self, key: str, level: int, *, hit: bool, failed: bool) -> None:
        """Count a read that the far tier at *level* answered, or could not."""
        far = self.far
        while len(far) <= level:
            far.append([0, 0, 0])
        far[level][2 if failed else 1 - hit] += 1
        if hit:
            self.near_promotions += 1
            patterns = self.patterns
            (patterns.of(key) if patterns.declared else patterns.other).hits += 1

    def answered(self, count: int, keys: Sequence[str]) -> None:
        """Count so many reads that the first far tier answered; of *keys*, where patterns are declared."""
        far = self.far
        if not far:
            far.append([0, 0, 0])
        far[0][0] += count
        self.near_promotions += count
        if not self.patterns.declared:
            self.patterns.other.hits += count
        for key in keys:
            self.patterns.of(key).hits += 1

    def missed(self, key: str) -> None:
        """Count a read that no tier could answer."""
        self.misses += 1
        patterns = self.patterns
        (patterns.of(key) if patterns.declared else patterns.other).misses += 1


class Snapshot:
    """Base of what a snapshot consists of: numbers that only rise are subtracted, states are kept."""

    __slots__ = ()

    def since(self, previous: Self) -> Self:
        """Return what was counted after *previous*, an earlier snapshot of the same cache.

        What is not a count, such as `breaker` or `queued`, stays what it is in this snapshot.
        """
        changed: dict[str, Any] = {}
        for one in dataclasses.fields(self):  # type: ignore[arg-type]
            now, before = getattr(self, one.name), getattr(previous, one.name)
            if "state" not in one.metadata and not isinstance(now, (str, bool)):
                changed[one.name] = _difference(now, before)
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]


def _difference(now: Any, before: Any) -> Any:
    if isinstance(now, Snapshot):
        return now.since(before) if before is not None else now
    if isinstance(now, Mapping):
        return {name: _difference(value, before.get(name)) for name, value in now.items()}
    return now if before is None else now - before


@dataclass(frozen=True, slots=True)
class Outcomes(Snapshot):
    """How one tier answered the reads of one route."""

    hits: int = 0
    misses: int = 0
    errors: int = 0
    """Reads that it could not answer, because it was away or slow."""


@dataclass(frozen=True, slots=True)
class TierStats(Snapshot):
    """One tier in a snapshot."""

    kind: str
    """"near" or "far"."""
    hits: int
    misses: int
    promotions: int = 0
    """Entries copied here because a farther tier had them."""
    writes: int = 0
    deletes: int = 0
    calls: int = 0
    """Batches that a far tier was sent."""
    seconds: float = 0.0
    """Spent waiting for them."""
    bytes_read: int = 0
    """Bytes of the frames that came from a far tier, and so `bytes_written`."""
    bytes_written: int = 0
    errors: int = 0
    timeouts: int = 0
    """Those of the errors that were calls not over by their deadline."""
    corrupt: int = 0
    evictions: Mapping[str, int] = field(default_factory=dict)
    """Entries that the tier itself gave up, by reason: "room", "expired", and what else it tells."""
    available: bool = True
    """Whether the last call to the tier went well."""
    breaker: str = "closed"
    """Of a far tier: "closed", "open" (it is left alone, and misses at no cost), or "half-open" (one call
    tries whether it is back).
    """
    queued: int = field(default=0, metadata=STATE)
    """Writes and deletes that a far tier has yet to be told; until then it is a miss for their keys."""
    own: Mapping[str, int] = field(default_factory=dict, metadata=STATE)
    """What the tier counts itself, such as `entries`, `bytes`, `evicted`, `expired`."""


@dataclass(frozen=True, slots=True)
class RouteStats(Snapshot):
    """One route in a snapshot."""

    misses: int
    """Reads that no tier of the route could answer."""
    loads: int
    load_errors: int
    load_seconds: float
    sets: int
    stale_served: int = 0
    """Callers who were given a stale copy, because a loader or every far tier failed or was slow."""
    refreshes: int = 0
    """Loads that were started in the background while the entry was still fresh."""
    tiers: Mapping[str, Outcomes] = field(default_factory=dict)
    """How each tier of the route answered, nearest first."""
    loading: int = field(default=0, metadata=STATE)
    """Loads under way now."""

    @property
    def hits(self) -> int:
        """Reads that a tier of the route answered."""
        return sum(tier.hits for tier in self.tiers.values())


@dataclass(frozen=True, slots=True)
class PatternStats(Snapshot):
    """The keys of one declared pattern in a snapshot."""

    hits: int
    """Reads that some tier answered."""
    misses: int
    loads: int


@dataclass(frozen=True, slots=True)
class BusStats(Snapshot):
    """What is heard of other processes' changes to one far tier, in a snapshot."""

    changes: int
    """Changes by others that were heard."""
    errors: int
    """Times that the bus failed."""
    trusted: bool = False
    """Whether the lease lives, so that near copies are believed."""
    lag: float = field(default=0.0, metadata=STATE)
    """Seconds since the last confirmation was sent that has come back; 0 where none has."""


@dataclass(frozen=True, slots=True)
class Stats(Snapshot):
    """A snapshot of everything counted since the cache was opened."""

    hits: int
    """Reads answered by any tier."""
    misses: int
    """Reads that no tier could answer."""
    tiers: Mapping[str, TierStats]
    """By name, in the order of the document."""
    routes: Mapping[str, RouteStats]
    """By name, in the order of the document."""
    seconds: float = 0.0
    """What the snapshot covers: since the cache was made, or since the snapshot that `since` was given."""
    patterns: Mapping[str, PatternStats] = field(default_factory=dict)
    """By pattern: those of `[telemetry] patterns`, then those of the routes, then "other"."""
    invalidations: Mapping[str, int] = field(default_factory=dict)
    """Calls by what was asked for: "tags", "prefix", "match", "clear"."""
    buses: Mapping[str, BusStats] = field(default_factory=dict)
    """By the far tier whose changes are told of."""
    export_errors: int = 0
    """Batches of spans or metrics that the exporter of `[telemetry]` could not deliver."""

    @property
    def hit_rate(self) -> float:
        """Hits by reads, from 0 to 1; 0 where nothing was read."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else 0.0

    def per_second(self, count: float) -> float:
        """Return *count*, one of the numbers of this snapshot, by the seconds that the snapshot covers."""
        return count / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the snapshot as dictionaries and numbers, ready for JSON."""
        return {**dataclasses.asdict(self), "hit_rate": self.hit_rate}
