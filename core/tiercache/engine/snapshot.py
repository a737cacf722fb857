"""The snapshot of a house: where its plain integers are read, and nowhere else."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING

from tiercache.contracts import NearTier
from tiercache.engine.stats import (
    OTHER,
    REASONS,
    BusStats,
    Outcomes,
    PatternStats,
    RouteStats,
    Stats,
    TierStats,
)
from tiercache.entry import Entry, Hot, Terms

if TYPE_CHECKING:
    from tiercache.engine.coherence import Coherence
    from tiercache.engine.house import House
    from tiercache.engine.pipeline import Route


def snapshot(house: House) -> Stats:
    """Return what *house* has counted. Costs about 40 ns an entry of the near tiers, twice that where
    several routes share one.
    """
    routes = house.routes.values()
    tiers: dict[str, TierStats] = {}
    for name, near in house.nears.items():
        own = near.stats()
        travelled = [route for route in routes if route.near is near]
        tiers[name] = TierStats(
            kind="near",
            hits=_share(house, near, travelled, own.get("hits", 0)),
            misses=sum(route.counts.near_misses for route in travelled),
            promotions=sum(route.counts.near_promotions for route in travelled),
            evictions={reason: own[name] for name, reason in REASONS if name in own},
            own=own,
        )
    for name, far in house.fars.items():
        tiers[name] = far.stats()
    return Stats(
        hits=sum(tier.hits for tier in tiers.values()),
        misses=sum(route.counts.misses for route in routes),
        tiers=tiers,
        routes={name: _route(house, route) for name, route in house.routes.items()},
        seconds=max(house.clock.monotonic() - house.began, 0.0),
        patterns={
            pattern: PatternStats(
                hits=row.hits + sum(route.counts.near_hits.get(pattern, 0) for route in routes),
                misses=row.misses,
                loads=row.loads,
            )
            for pattern, row in house.patterns.rows.items()
        },
        invalidations=dict(house.telemetry.invalidations),
        buses={
            coherence.far.name: _bus(coherence)
            for coherence in house.hearing.coherences
            if coherence.bus is not None
        },
        export_errors=house.telemetry.export_errors,
    )


def _route(house: House, route: Route) -> RouteStats:
    counts = route.counts
    tiers: dict[str, Outcomes] = {}
    for name, near in house.nears.items():
        if near is route.near:
            tiers[name] = Outcomes(hits=sum(counts.near_hits.values()), misses=counts.near_misses)
    for level, far in enumerate(route.fars):
        hits, misses, errors = counts.far[level] if level < len(counts.far) else (0, 0, 0)
        tiers[far.name] = Outcomes(hits=hits, misses=misses, errors=errors)
    return RouteStats(
        misses=counts.misses,
        loads=counts.loads,
        load_errors=counts.load_errors,
        load_seconds=counts.load_seconds,
        sets=counts.sets,
        stale_served=counts.stale_served,
        refreshes=counts.refreshes,
        tiers=tiers,
        loading=len(route.flights.running),
    )


def _bus(coherence: Coherence) -> BusStats:
    until = coherence.trust.until
    return BusStats(
        changes=coherence.changes,
        errors=coherence.errors,
        trusted=coherence.trust.holds(),
        lag=max(coherence.now() - (until - coherence.lease), 0.0) if math.isfinite(until) else 0.0,
    )


def _share(house: House, near: NearTier, routes: list[Route], living: int) -> int:
    """Tell each of *routes*, all those over *near*, and each pattern, its hits; return those of all."""
    gone = {route.name: route.keeping.hits() for route in routes}
    held: Counter[tuple[str, str]] = Counter()
    if len(routes) == 1 and len(house.patterns.rows) == 1:
        held[routes[0].name, OTHER] = living
    elif living:
        by_terms: Counter[Terms] = Counter()
        for entry in _entries(near):
            if entry.hits:
                by_terms[entry.terms] += entry.hits
        for terms, hits in by_terms.items():
            held[terms.route, terms.pattern] += hits
    for route in routes:
        for pattern in house.patterns.rows:
            hits = gone[route.name][pattern] + held[route.name, pattern]
            # Entries of a dictionary that was cleared count again when it is taken apart: never fewer.
            counted = route.counts.near_hits
            counted[pattern] = max(counted.get(pattern, 0), hits)
    return living + sum(hits.total() for hits in gone.values())


def _entries(near: NearTier) -> Iterator[Entry]:
    parts = near.segments or ((near.entries,) if near.entries is not None else ())
    if parts:
        # Lists first: threads ask while the loop adds.
        return chain.from_iterable(list(part.values()) for part in parts)
    found = (near.get(key) for key in near.keys())  # noqa: SIM118 - no dictionary
    return (entry for entry in found if entry is not None)


def hottest(nears: Iterable[NearTier], count: int) -> list[Hot]:
    """Return the entries of *nears* that were read most, fresh or not, the hottest first."""
    read = (entry for near in nears for entry in _entries(near) if entry.hits)
    most = heapq.nlargest(count, read, key=attrgetter("hits"))
    return [Hot(entry.key, entry.terms.route, entry.hits) for entry in most]
