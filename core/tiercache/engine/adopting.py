"""What a running cache can take over from a new configuration, without opening anything anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tiercache.contracts import Life
from tiercache.engine.rules import Rules
from tiercache.engine.telemetry import Options

if TYPE_CHECKING:
    from tiercache.engine.house import House


@dataclass(frozen=True, slots=True)
class Terms:
    """The options that may change while a cache is open. Durations are seconds."""

    tombstone: float
    max_markers: int
    telemetry: Options
    lives: Mapping[str, Life] = field(default_factory=dict)
    """By route."""
    rules: Mapping[str, Rules] = field(default_factory=dict)
    """By route; only of routes whose rules are others."""
    deadlines: Mapping[str, float] = field(default_factory=dict)
    """By far tier."""
    max_ttls: Mapping[str, float] = field(default_factory=dict)
    """By tier."""


async def adopt(house: House, terms: Terms) -> None:
    """Let *house* go by *terms* from now on. What is stored keeps the life that it was given."""
    for name, life in terms.lives.items():
        house.routes[name].life = life
    for name, rules in terms.rules.items():
        route = house.routes[name]
        route.rules = route.negatives.rules = rules
        route.keeping.go_by(rules)
    for name, deadline in terms.deadlines.items():
        house.fars[name].guard.deadline = deadline
    for name, max_ttl in terms.max_ttls.items():
        if name in house.nears:
            house.nears[name].max_ttl = max_ttl
        elif name in house.fars:
            house.fars[name].max_ttl = max_ttl
    for route in house.routes.values():
        route.compose()
    patience = (route.rules.hard_timeout or 0.0 for route in house.routes.values())
    house.tombstone = house.hearing.tombstone = max(terms.tombstone, *patience)
    house.invalidation.markers.most = terms.max_markers
    await house.telemetry.change(terms.telemetry)
