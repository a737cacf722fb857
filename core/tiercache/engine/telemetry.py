"""OpenTelemetry instruments over the plain integers of `stats`. Nothing here is on a key's way."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from tiercache.engine.stats import Stats

Snapshot = Callable[[], Stats]
Row = tuple[float, dict[str, str]]


def observe(snapshot: Snapshot, namespace: str) -> None:
    """Offer what *snapshot* counts to the application's meter provider, for as long as its owner lives.

    Needs the API alone; without an SDK this costs nothing. Instruments are read when the provider collects,
    so a hit costs what it costs without them. *snapshot* is a bound method; its object is held weakly.
    """
    from opentelemetry.metrics import Observation, get_meter

    owner = weakref.WeakMethod(snapshot)
    meter = get_meter("tiercache")

    def reader(rows: Callable[[Stats], Iterable[Row]]) -> Any:
        def read(_options: object) -> list[Observation]:
            living = owner()
            if living is None:
                return []
            return [
                Observation(number, {"tiercache.cache": namespace, **labels})
                for number, labels in rows(living())
            ]

        return [read]

    def counter(name: str, rows: Callable[[Stats], Iterable[Row]], unit: str, description: str) -> None:
        meter.create_observable_counter(f"tiercache.{name}", reader(rows), unit, description)

    counter("gets", _gets, "{get}", "Look-ups in a tier, by their result.")
    counter("misses", _misses, "{get}", "Reads that no tier of the route could answer.")
    counter("loads", _loads, "{load}", "Calls of loaders.")
    counter("load.errors", _load_errors, "{load}", "Calls of loaders that failed.")
    counter("load.duration", _load_seconds, "s", "Time spent in loaders.")
    counter("tier.errors", _errors, "{call}", "Calls to a far tier that failed.")
    meter.create_observable_gauge(
        "tiercache.tier.entries", reader(_entries), "{entry}", "Entries that a tier holds."
    )


def _gets(stats: Stats) -> Iterable[Row]:
    for name, tier in stats.tiers.items():
        yield tier.hits, {"tiercache.tier": name, "tiercache.result": "hit"}
        yield tier.misses, {"tiercache.tier": name, "tiercache.result": "miss"}


def _misses(stats: Stats) -> Iterable[Row]:
    return ((route.misses, {"tiercache.route": name}) for name, route in stats.routes.items())


def _loads(stats: Stats) -> Iterable[Row]:
    return ((route.loads, {"tiercache.route": name}) for name, route in stats.routes.items())


def _load_errors(stats: Stats) -> Iterable[Row]:
    return ((route.load_errors, {"tiercache.route": name}) for name, route in stats.routes.items())


def _load_seconds(stats: Stats) -> Iterable[Row]:
    return ((route.load_seconds, {"tiercache.route": name}) for name, route in stats.routes.items())


def _errors(stats: Stats) -> Iterable[Row]:
    return (
        (tier.errors, {"tiercache.tier": name}) for name, tier in stats.tiers.items() if tier.kind == "far"
    )


def _entries(stats: Stats) -> Iterable[Row]:
    return (
        (tier.own["entries"], {"tiercache.tier": name})
        for name, tier in stats.tiers.items()
        if "entries" in tier.own
    )
