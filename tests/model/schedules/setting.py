"""What a schedule is played with: documents, and the sizes that a seed draws."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from model.schedules.loop import Order
from tiercache.config.plan import Plan, plan
from tiercache.config.registry import Registry

TIERS: dict[str, dict[str, Any]] = {
    "memory": {"type": "memory", "max_entries": 1000},
    "shared": {"type": "shared", "deadline": "2s"},
    "disk": {"type": "host", "deadline": "2s"},
}
SHAPES: dict[str, dict[str, tuple[str, ...]]] = {
    "near": {"all": ("memory",)},
    "shared": {"all": ("shared",)},
    "near and shared": {"all": ("memory", "shared")},
    "shared and disk": {"all": ("shared", "disk")},
    "three": {"all": ("memory", "shared", "disk")},
    "routes": {"all": ("memory", "shared", "disk"), "far": ("shared", "disk"), "local": ("memory",)},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"ttl": "1h"},
    "stale": {"ttl": "20s", "stale": "60s"},
    "patient": {"ttl": "20s", "stale": "60s", "soft_timeout": "100ms", "hard_timeout": "3s"},
    "hasty": {"ttl": "50s", "hard_timeout": "500ms", "negative_ttl": "2s", "negative_errors": True},
    "ahead": {"ttl": "10s", "stale": "10s", "refresh_ahead": 0.5, "jitter": 0.2},
}


@lru_cache
def planned(shape: str, options: str, entries: int, *, bus: bool) -> Plan:
    """Return the checked plan of a document, which all caches of a schedule are opened from."""
    routes = SHAPES[shape]
    used = {tier for tiers in routes.values() for tier in tiers}
    tiers = {name: dict(tier) for name, tier in TIERS.items() if name in used}
    if "memory" in tiers:
        tiers["memory"]["max_entries"] = entries
    document = {
        "cache": {"bus": "auto" if bus else "none"},
        "tier": tiers,
        "route": {
            name: {"tiers": list(listed), "default": name == "all", **OPTIONS[options]}
            for name, listed in routes.items()
        },
    }
    own = [EntryPoint(name, f"model.schedules.{name}", "tiercache") for name in ("storage", "radio")]
    points = [*entry_points(group="tiercache"), *own]
    return plan(document, registry=Registry.load(points=points), environ={})


@dataclass(frozen=True, slots=True)
class Setting:
    """The sizes of one schedule."""

    seed: int
    order: Order
    shape: str
    options: str
    entries: int
    seats: tuple[str, ...]
    """The host of each cache."""
    actors: int
    acts: int
    keys: tuple[str, ...]
    badness: float
    outages: bool
    flushes: bool
    reopens: bool
    cancels: float
    bus: bool
    prompt: bool
    """Whether tiers are read without a task."""
    together: bool
    """Whether all who are woken at once go on in one step of the loop."""

    @classmethod
    def draw(cls, seed: int) -> Setting:
        chance = random.Random(seed)
        seats = chance.choice((2, 2, 2, 3, 4))
        return cls(
            seed=seed,
            order=chance.choice(("queue", "round", "any", "any")),
            shape=chance.choice(tuple(SHAPES)),
            options=chance.choice(tuple(OPTIONS)),
            entries=chance.choice((1000, 1000, 2)),
            seats=tuple(chance.choice(("east", "west")) for _ in range(seats)),
            actors=chance.choice((1, 2, 3)) if seats > 2 else chance.choice((2, 3, 4)),
            acts=chance.choice((4, 6, 8)),
            keys=("a", "ab", "u:1", "u:2")[: chance.choice((1, 2, 2, 4))],
            badness=chance.choice((0.0, 0.0, 0.03, 0.15)),
            outages=chance.random() < 0.3,
            flushes=chance.random() < 0.15,
            reopens=chance.random() < 0.3,
            cancels=chance.choice((0.0, 0.1, 0.3)),
            bus=chance.random() < 0.6,
            prompt=chance.random() < 0.5,
            together=chance.random() < 0.5,
        )

    @property
    def plan(self) -> Plan:
        return planned(self.shape, self.options, self.entries, bus=self.bus)

    @property
    def routes(self) -> dict[str, tuple[str, ...]]:
        return SHAPES[self.shape]
