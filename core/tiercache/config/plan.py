"""What a document means once everything in it is known to be right."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from tiercache.config.buses import buses
from tiercache.config.check import Checker
from tiercache.config.lint import warnings
from tiercache.config.registry import Registry
from tiercache.config.report import report
from tiercache.config.settings import Settings, read
from tiercache.config.tables import RouteTable
from tiercache.contracts import (
    BusConfig,
    CompressorConfig,
    FarTierConfig,
    Kind,
    NearTierConfig,
    PatternConfig,
    PolicyConfig,
    SerializerConfig,
    StageConfig,
)
from tiercache.engine.rules import Rules
from tiercache.engine.telemetry.options import Options
from tiercache.errors import ConfigError, Problem

_Config = TypeVar("_Config", bound=StageConfig)


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """One route."""

    name: str
    tiers: tuple[str, ...]
    """Names of tiers, fastest first."""
    keys: tuple[str, ...]
    """Patterns of the keys that take this route unasked."""
    ttl: float
    """Seconds; `math.inf` where values never expire."""
    stale: float
    """Seconds after `ttl` for which values may still be served; 0.0 for none."""
    patterns: tuple[str, ...]
    """Names of patterns, outermost first."""
    copy: bool
    """Whether each reader gets a copy of its own."""
    near: bool = True
    """Whether a near tier among `tiers` is used."""
    rules: Rules = field(default_factory=Rules)
    """What loads go by."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked document: every reference in it leads somewhere."""

    namespace: str
    """Goes in front of every key outside this process."""
    max_value_bytes: int
    """The most that a value may have as bytes, before compression."""
    buses: Mapping[str, tuple[str, BusConfig]]
    """Name and configuration of the bus of each tier that has one."""
    lease: float
    """Seconds for which near entries may be trusted without word from the bus."""
    tombstone: float
    """Seconds for which far tiers remember a delete."""
    max_markers: int
    """Invalidated tags and prefixes that are remembered one by one."""
    loop: str
    """Where the event loop comes from that is started for callers without one: asyncio or uvloop."""
    directory: Path
    """Where relative paths start: the directory of the file, else the working directory."""
    stages: Mapping[Kind, Mapping[str, StageConfig]]
    """Every declared or referenced stage, by the name that it is referred to by."""
    routes: Mapping[str, RoutePlan]
    """In the order of the document."""
    default: str
    """Name of the route for keys that no pattern matches."""
    telemetry: Options
    warnings: tuple[Problem, ...]
    """What is allowed and still likely a mistake."""
    registry: Registry
    """What the installed plugins provide, less those that the document switches off."""

    def tier(self, name: str) -> NearTierConfig | FarTierConfig:
        """Return the tier called *name*. This and the next ones raise KeyError where there is none."""
        config = self.stages["tier"][name]
        assert isinstance(config, (NearTierConfig, FarTierConfig))
        return config

    def policy(self, reference: str) -> PolicyConfig:
        """Return the policy that *reference* names."""
        return self._stage("policy", reference, PolicyConfig)

    def serializer(self, reference: str) -> SerializerConfig:
        """Return the serializer that *reference* names."""
        return self._stage("serializer", reference, SerializerConfig)

    def compressor(self, reference: str) -> CompressorConfig | None:
        """Return the compressor that *reference* names; None for "none"."""
        return None if reference == "none" else self._stage("compressor", reference, CompressorConfig)

    def pattern(self, reference: str) -> PatternConfig:
        """Return the pattern that *reference* names."""
        return self._stage("pattern", reference, PatternConfig)

    def _stage(self, kind: Kind, reference: str, base: type[_Config]) -> _Config:
        config = self.stages[kind][reference]
        assert isinstance(config, base)
        return config


def plan(
    source: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    registry: Registry | None = None,
) -> Plan:
    """Read the configuration and return what it means.

    *source* is a file, a mapping in its place, or None: then `TIERCACHE_CONFIG` names the file, or the
    nearest `tiercache.toml` or `[tool.tiercache]` from the working directory upward is taken. *overrides* win
    over everything. *environ* and *registry* stand in for the process's environment and the installed
    plugins.

    Raises ConfigError with all problems at once; PluginError where two plugins claim one name or type.
    """
    settings = read(source, overrides, environ=environ)
    disabled = _disabled(settings)
    found = Registry.load(disabled) if registry is None else registry.without(disabled)
    return check(settings, found)


def check(settings: Settings, registry: Registry) -> Plan:
    """Return the plan that *settings* make with the plugins of *registry*. Pure: no I/O.

    Raises as `plan` does.
    """
    checker = Checker(settings, registry)
    checker.run()
    problems = (*report(checker.found, settings, checker.secrecy), *settings.problems)
    if problems:
        raise ConfigError(problems)
    stages: dict[Kind, Mapping[str, StageConfig]] = {
        kind: MappingProxyType(named) for kind, named in checker.stages.items()
    }
    routes = {name: _route(name, table) for name, table in checker.routes.items()}
    return Plan(
        namespace=checker.cache.namespace,
        max_value_bytes=checker.cache.max_value_bytes,
        buses=MappingProxyType(buses(checker.cache.bus, checker.stages, checker.routes.values(), registry)),
        lease=checker.cache.lease,
        tombstone=checker.cache.tombstone,
        max_markers=checker.cache.max_markers,
        loop=checker.cache.loop,
        directory=settings.directory,
        stages=MappingProxyType(stages),
        routes=MappingProxyType(routes),
        default=checker.default,
        telemetry=Options(**checker.telemetry.model_dump()),
        warnings=(*settings.warnings, *report(warnings(checker), settings, checker.secrecy)),
        registry=registry,
    )


def _route(name: str, table: RouteTable) -> RoutePlan:
    return RoutePlan(
        name=name,
        tiers=table.tiers,
        keys=table.keys,
        ttl=math.inf if table.ttl is None else table.ttl,
        stale=table.stale or 0.0,
        patterns=table.patterns,
        copy=table.copies,
        near=table.near,
        rules=Rules(
            soft_timeout=table.soft_timeout,
            hard_timeout=table.hard_timeout,
            refresh_ahead=table.refresh_ahead,
            sliding=None if table.sliding == math.inf else table.sliding,
            jitter=table.jitter,
            negative_ttl=table.negative_ttl,
            coherent=table.coherent,
            negative_errors=table.negative_errors,
            lock=table.lock,
        ),
    )


def _disabled(settings: Settings) -> tuple[str, ...]:
    """Return the plugins to leave alone, before anything is checked: a wrong table is told about later."""
    table = settings.document.plugins
    names = table.get("disabled", ()) if isinstance(table, Mapping) else ()
    if isinstance(names, str) and settings.textual(("plugins", "disabled")):
        names = names.split(",")
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, (list, tuple)) else ()
