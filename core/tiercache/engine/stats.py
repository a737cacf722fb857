"""Plain integers, raised where things happen, and the snapshot that `cache.stats()` gives of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


class FarCounts:
    """What one far tier did since the cache was opened."""

    __slots__ = ("corrupt", "deletes", "errors", "hits", "misses", "promotions", "writes")

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.writes = 0
        self.deletes = 0
        self.promotions = 0
        """Entries copied into this tier because a farther one had them."""
        self.errors = 0
        """Calls that failed, and were taken as a miss or a skipped write."""
        self.corrupt = 0
        """Frames that were not what they claimed to be: a miss and a deletion each."""


class RouteCounts:
    """What happened on one route since the cache was opened."""

    __slots__ = (
        "load_errors", "load_seconds", "loads", "misses", "near_misses", "refreshes", "sets", "stale_served",
    )  # fmt: skip

    def __init__(self) -> None:
        self.near_misses = 0
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


@dataclass(frozen=True, slots=True)
class TierStats:
    """One tier in a snapshot."""

    kind: str
    """"near" or "far"."""
    hits: int
    misses: int
    promotions: int = 0
    writes: int = 0
    deletes: int = 0
    errors: int = 0
    corrupt: int = 0
    available: bool = True
    """Whether the last call to the tier went well."""
    breaker: str = "closed"
    """Of a far tier: "closed", "open" (it is left alone, and misses at no cost), or "half-open" (one call
    tries whether it is back).
    """
    queued: int = 0
    """Writes and deletes that a far tier has yet to be told; until then it is a miss for their keys."""
    own: Mapping[str, int] = field(default_factory=dict)
    """What the tier counts itself, such as `entries`, `bytes`, `evicted`, `expired`."""


@dataclass(frozen=True, slots=True)
class RouteStats:
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


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of everything counted since the cache was opened."""

    hits: int
    """Reads answered by any tier."""
    misses: int
    """Reads that no tier could answer."""
    tiers: Mapping[str, TierStats]
    """By name, in the order of the document."""
    routes: Mapping[str, RouteStats]
    """By name, in the order of the document."""

    @property
    def hit_rate(self) -> float:
        """Hits by reads, from 0 to 1; 0 where nothing was read."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the snapshot as dictionaries and numbers, ready for JSON."""
        return {**asdict(self), "hit_rate": self.hit_rate}
