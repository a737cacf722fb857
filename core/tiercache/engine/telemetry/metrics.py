"""Metrics: observable instruments over a snapshot, and histograms of what is slow anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from tiercache.engine.stats import BusStats, Stats, TierStats

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

    from tiercache.engine.telemetry import Telemetry

Row = tuple[float, dict[str, str]]
Rows = Callable[[Stats], Iterable[Row]]

SECONDS: Final = (
    5e-5, 1e-4, 2.5e-4, 5e-4, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
)  # fmt: skip
"""Bounds of the histograms' buckets."""


class Histograms:
    """Durations of far calls and loads: each costs about 10 µs with an SDK, so nothing faster is here."""

    __slots__ = ("__weakref__", "_cache", "_far", "_loads")

    def __init__(self, meter: Meter, namespace: str) -> None:
        self._cache = {"tiercache.cache": namespace}
        self._far = meter.create_histogram(
            "tiercache.far.duration", "s", "Time that one call to a far tier took.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )  # fmt: skip
        self._loads = meter.create_histogram(
            "tiercache.load.duration", "s", "Time that one call of a loader took.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )  # fmt: skip

    def far(self, tier: str, act: str, seconds: float, *, failed: bool) -> None:
        """Record a call to a far tier."""
        outcome = "error" if failed else "ok"
        labels = {"tiercache.tier": tier, "tiercache.act": act, "tiercache.outcome": outcome}
        self._far.record(seconds, {**self._cache, **labels})

    def load(self, route: str, seconds: float, *, failed: bool) -> None:
        """Record a call of a loader."""
        labels = {"tiercache.route": route, "tiercache.outcome": "error" if failed else "ok"}
        self._loads.record(seconds, {**self._cache, **labels})


def observe(meter: Meter, telling: Callable[[], Iterable[Telemetry]]) -> None:
    """Offer to *meter* what the caches of *telling* count, for as long as they want that."""
    from opentelemetry.metrics import Observation

    def callback(name: str, rows: Rows) -> Any:
        def observations(_options: object) -> list[Observation]:
            # Caches may share a namespace, and a series has one value.
            sums: dict[tuple[tuple[str, str], ...], float] = {}
            for telemetry in telling():
                stats = telemetry.reading(name)
                for number, labels in () if stats is None else rows(stats):
                    series = (("tiercache.cache", telemetry.namespace), *labels.items())
                    sums[series] = sums.get(series, 0) + number
            return [Observation(number, dict(labels)) for labels, number in sums.items()]

        return [observations]

    for name, unit, description, rows in COUNTERS:
        meter.create_observable_counter(f"tiercache.{name}", callback(name, rows), unit, description)
    for name, unit, description, rows in GAUGES:
        meter.create_observable_gauge(f"tiercache.{name}", callback(name, rows), unit, description)


def _gets(stats: Stats) -> Iterable[Row]:
    for route, counted in stats.routes.items():
        for tier, outcomes in counted.tiers.items():
            where = {"tiercache.route": route, "tiercache.tier": tier}
            yield outcomes.hits, {**where, "tiercache.result": "hit"}
            yield outcomes.misses, {**where, "tiercache.result": "miss"}
            if stats.tiers[tier].kind == "far":
                yield outcomes.errors, {**where, "tiercache.result": "error"}


def _of_routes(name: str) -> Rows:
    def rows(stats: Stats) -> Iterable[Row]:
        return ((getattr(row, name), {"tiercache.route": route}) for route, row in stats.routes.items())

    return rows


def _of_tiers(number: Callable[[TierStats], float | None], *, far: bool = False) -> Rows:
    def rows(stats: Stats) -> Iterable[Row]:
        for name, tier in stats.tiers.items():
            found = number(tier) if tier.kind == "far" or not far else None
            if found is not None:
                yield found, {"tiercache.tier": name}

    return rows


def _bytes_moved(stats: Stats) -> Iterable[Row]:
    for name, tier in stats.tiers.items():
        if tier.kind == "far":
            yield tier.bytes_read, {"tiercache.tier": name, "tiercache.direction": "read"}
            yield tier.bytes_written, {"tiercache.tier": name, "tiercache.direction": "write"}


def _evictions(stats: Stats) -> Iterable[Row]:
    for name, tier in stats.tiers.items():
        for reason, count in tier.evictions.items():
            yield count, {"tiercache.tier": name, "tiercache.reason": reason}


def _breakers(stats: Stats) -> Iterable[Row]:
    for name, tier in stats.tiers.items():
        if tier.kind == "far":
            for state in ("closed", "half-open", "open"):
                yield tier.breaker == state, {"tiercache.tier": name, "tiercache.state": state}


def _of_buses(number: Callable[[BusStats], float]) -> Rows:
    return lambda stats: ((number(bus), {"tiercache.tier": name}) for name, bus in stats.buses.items())


def _patterns(stats: Stats) -> Iterable[Row]:
    for pattern, row in stats.patterns.items():
        yield row.hits, {"tiercache.pattern": pattern, "tiercache.result": "hit"}
        yield row.misses, {"tiercache.pattern": pattern, "tiercache.result": "miss"}


def _by(label: str, counts: Callable[[Stats], Mapping[str, int]]) -> Rows:
    return lambda stats: ((count, {label: name}) for name, count in counts(stats).items())


COUNTERS: Final[tuple[tuple[str, str, str, Rows], ...]] = (
    ("gets", "{get}", "Look-ups in a tier, by route and result.", _gets),
    ("misses", "{get}", "Reads that no tier of the route could answer.", _of_routes("misses")),
    ("sets", "{set}", "Values stored by the application.", _of_routes("sets")),
    ("loads", "{load}", "Calls of loaders.", _of_routes("loads")),
    ("load.errors", "{load}", "Calls of loaders that failed.", _of_routes("load_errors")),
    ("load.time", "s", "Time spent in loaders.", _of_routes("load_seconds")),
    ("stale", "{get}", "Callers who were given a stale copy.", _of_routes("stale_served")),
    ("refreshes", "{load}", "Loads that began while the entry was fresh.", _of_routes("refreshes")),
    ("pattern.gets", "{get}", "Reads by declared pattern of keys.", _patterns),
    (
        "invalidations", "{call}", "Invalidations, by what was asked for.",
        _by("tiercache.kind", lambda stats: stats.invalidations),
    ),
    ("tier.calls", "{call}", "Batches sent to a far tier.", _of_tiers(lambda tier: tier.calls, far=True)),
    ("tier.time", "s", "Time spent waiting for a far tier.", _of_tiers(lambda tier: tier.seconds, far=True)),
    ("tier.errors", "{call}", "Calls to a far tier that failed.", _of_tiers(lambda t: t.errors, far=True)),
    ("tier.timeouts", "{call}", "Calls that took too long.", _of_tiers(lambda t: t.timeouts, far=True)),
    ("tier.corrupt", "{frame}", "Frames that were damaged.", _of_tiers(lambda tier: tier.corrupt, far=True)),
    ("tier.writes", "{entry}", "Entries stored in a far tier.", _of_tiers(lambda t: t.writes, far=True)),
    ("tier.deletes", "{entry}", "Entries dropped from one.", _of_tiers(lambda tier: tier.deletes, far=True)),
    ("tier.promotions", "{entry}", "Entries copied from a farther tier.", _of_tiers(lambda t: t.promotions)),
    ("tier.io", "By", "Bytes read from and written to a far tier.", _bytes_moved),
    ("tier.evictions", "{entry}", "Entries that a tier gave up, by reason.", _evictions),
    ("bus.changes", "{change}", "Changes by others that were heard.", _of_buses(lambda bus: bus.changes)),
    ("bus.errors", "{failure}", "Times that the bus failed.", _of_buses(lambda bus: bus.errors)),
    ("export.errors", "{batch}", "Exports that failed.", lambda stats: ((stats.export_errors, {}),)),
)  # fmt: skip
"""Name, unit, description and rows of what only rises."""

GAUGES: Final[tuple[tuple[str, str, str, Rows], ...]] = (
    ("loading", "{load}", "Loads under way.", _of_routes("loading")),
    ("bus.trusted", "", "1: near copies are believed.", _of_buses(lambda bus: int(bus.trusted))),
    ("bus.lag", "s", "Time since the last confirmation was sent.", _of_buses(lambda bus: bus.lag)),
    ("tier.entries", "{entry}", "Entries that a tier holds.", _of_tiers(lambda t: t.own.get("entries"))),
    ("tier.bytes", "By", "Bytes that a tier holds.", _of_tiers(lambda tier: tier.own.get("bytes"))),
    ("tier.queued", "{write}", "Writes yet to be told to it.", _of_tiers(lambda t: t.queued, far=True)),
    ("tier.available", "", "1: the last call went well.", _of_tiers(lambda t: int(t.available), far=True)),
    ("tier.breaker", "", "1 for the state of the circuit breaker.", _breakers),
)
"""The same for what rises and falls."""
