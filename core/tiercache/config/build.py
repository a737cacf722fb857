"""Plan → live stages, wired. The only place that calls `.build()`; it does no I/O."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tiercache.clock import Clock
from tiercache.config.plan import Plan
from tiercache.contracts import (
    Bus,
    Compressor,
    FarTierConfig,
    Kind,
    Life,
    NearTier,
    NearTierConfig,
    PolicyConfig,
    Serializer,
    SerializerConfig,
    StageConfig,
)
from tiercache.engine.codec import Codec, Decoder
from tiercache.engine.coherence import Coherence
from tiercache.engine.far import Far
from tiercache.engine.house import House
from tiercache.engine.pipeline import Route
from tiercache.errors import ConfigError, Problem

_Stage = TypeVar("_Stage")


@dataclass(frozen=True, slots=True)
class StageContext:
    """What a stage is given when it is built."""

    name: str
    namespace: str
    directory: Path
    clock: Clock
    plan: Plan

    def policy(self, reference: str) -> PolicyConfig:
        """Return the policy configuration that *reference* names."""
        return self.plan.policy(reference)


class Readers(Mapping[str, _Stage]):
    """The serializers, or compressors, that frames may name; each is built when the first frame does.

    Declared stages come first, whatever they are called, because frames name types. Of types that nobody
    declared only those are there that can be read safely and without options.
    """

    def __init__(self, kind: Kind, builder: Builder) -> None:
        self._builder = builder
        self._kind: Kind = kind
        self._configs: dict[str, tuple[str, StageConfig]] = {}
        for name, config in builder.plan.stages.get(kind, {}).items():
            self._configs.setdefault(config.type_name(), (name, config))

    def __getitem__(self, type_name: str) -> _Stage:
        if type_name not in self._configs:
            config = self._undeclared(type_name)
            if config is None:
                raise KeyError(type_name)
            self._configs[type_name] = (type_name, config)
        name, config = self._configs[type_name]
        stage: _Stage = self._builder.stage(self._kind, name, config)
        return stage

    def __iter__(self) -> Iterator[str]:
        return iter(self._configs)

    def __len__(self) -> int:
        return len(self._configs)

    def _undeclared(self, type_name: str) -> StageConfig | None:
        found = self._builder.plan.registry.get(self._kind, type_name)
        if found is None or (issubclass(found, SerializerConfig) and not found.reads_undeclared):
            return None
        return found()


class Builder:
    """Builds each stage of a plan at most once."""

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self.plan = plan
        self.clock = clock
        self._stages: dict[tuple[Kind, str], Any] = {}
        self._codecs: dict[tuple[str, str], Codec] = {}

    def stage(self, kind: Kind, name: str, config: StageConfig) -> Any:
        """Return the live stage of *config*."""
        if (kind, name) not in self._stages:
            context = StageContext(name, self.plan.namespace, self.plan.directory, self.clock, self.plan)
            self._stages[kind, name] = config.build(context)  # type: ignore[attr-defined]
        return self._stages[kind, name]

    def far(self, name: str, config: FarTierConfig) -> Far:
        """Return the far tier *name* with its codec and lanes."""
        return Far(
            name,
            self.stage("tier", name, config),
            self._codec(config.serializer, config.compressor),
            self.clock,
            scope=config.scope,
            deadline=config.deadline,
            max_ttl=math.inf if config.max_ttl is None else config.max_ttl,
        )

    def bus(self, tier: str, far: Far) -> Bus | None:
        """Return the bus of *far*, the tier called *tier*, if it has one."""
        if tier not in self.plan.buses:
            return None
        name, config = self.plan.buses[tier]
        context = StageContext(name, self.plan.namespace, self.plan.directory, self.clock, self.plan)
        return config.build(context, far.guard.tier)

    def decoder(self) -> Decoder:
        """Return what reads frames, whoever wrote them."""
        serializers: Readers[Serializer] = Readers("serializer", self)
        compressors: Readers[Compressor] = Readers("compressor", self)
        return Decoder(serializers, compressors, limit=self.plan.max_value_bytes)

    def _codec(self, serializer: str, compressor: str) -> Codec:
        if (serializer, compressor) not in self._codecs:
            writes = self.plan.serializer(serializer)
            shrinks = self.plan.compressor(compressor)
            self._codecs[serializer, compressor] = Codec(
                writes.type_name(),
                self.stage("serializer", serializer, writes),
                "" if shrinks is None else shrinks.type_name(),
                None if shrinks is None else self.stage("compressor", compressor, shrinks),
                limit=self.plan.max_value_bytes,
            )
        return self._codecs[serializer, compressor]


def build(plan: Plan, clock: Clock) -> House:
    """Return the live, unopened stages of *plan*. Only what a route uses is built and imported."""
    builder = Builder(plan, clock)
    used = dict.fromkeys(tier for route in plan.routes.values() for tier in route.tiers)
    nears: dict[str, NearTier] = {}
    fars: dict[str, Far] = {}
    for name in used:
        config = plan.tier(name)
        if isinstance(config, NearTierConfig):
            nears[name] = builder.stage("tier", name, config)
        else:
            fars[name] = builder.far(name, config)
    decoder = builder.decoder()
    patterns = {
        name: builder.stage("pattern", name, plan.pattern(name))
        for name in dict.fromkeys(pattern for route in plan.routes.values() for pattern in route.patterns)
    }
    routes = {
        name: Route(
            name,
            namespace=plan.namespace,
            near=next((nears[tier] for tier in route.tiers if tier in nears and route.near), None),
            fars=[fars[tier] for tier in route.tiers if tier in fars],
            life=Life(route.ttl, route.stale),
            copies=route.copy,
            rules=route.rules,
            decoder=decoder,
            clock=clock,
            patterns=[patterns[pattern] for pattern in route.patterns],
        )
        for name, route in plan.routes.items()
    }
    unable = {
        route.name: route.authority.name
        for route in routes.values()
        if route.rules.lock and route.authority is not None and route.turns is None
    }
    if unable:
        told = (
            'tier "{}" answers for the route, and does not lend leases (the ability Locks); false is accepted'
        )
        raise ConfigError(
            Problem("", f"route.{route}.lock", told.format(tier)) for route, tier in unable.items()
        )
    lease = plan.lease
    followed = {
        name: far
        for name, far in fars.items()
        if name in plan.buses or any(route.authority is far for route in routes.values())
    }
    # One clock can't be kept at the time of two.
    dating = next((far for far in followed.values() if far.scope == "shared"), None)
    coherences = [
        Coherence(far, builder.bus(name, far), clock, lease=lease, dates=far is dating)
        for name, far in followed.items()
    ]
    house = House(
        namespace=plan.namespace,
        clock=clock,
        routes=routes,
        default=plan.default,
        globs=[(pattern, route.name) for route in plan.routes.values() for pattern in route.keys],
        patterns=(*plan.telemetry.patterns, *(key for route in plan.routes.values() for key in route.keys)),
        nears=nears,
        fars=fars,
        coherences=coherences,
        options=plan.telemetry,
        max_markers=plan.max_markers,
        tombstone=plan.tombstone,
        stages=tuple(patterns.values()),
    )
    house.plan = plan
    return house
