"""What a document may say and still hardly means."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tiercache.config.report import Finding
from tiercache.contracts import KINDS, FarTierConfig, Kind, NearTierConfig, SerializerConfig
from tiercache.units import format_seconds

if TYPE_CHECKING:
    from tiercache.config.check import Checker
    from tiercache.config.tables import RouteTable


def warnings(checked: Checker) -> Iterator[Finding]:
    """Yield each suspicion about a document that has no problems, with the key that it is about."""
    for name, route in checked.routes.items():
        yield from _lives(checked, route)
        yield from _beforehand(checked, name, route)
        if checked.cache.bus == "none":
            yield from _unheard(checked, name, route)
    yield from _hidden_keys(checked)
    yield from _unused(checked)


def _lives(checked: Checker, route: RouteTable) -> Iterator[Finding]:
    near = checked.stages["tier"][route.tiers[0]]
    if not isinstance(near, NearTierConfig):
        return
    life = math.inf if route.ttl is None else route.ttl
    nearest = min(life, math.inf if near.max_ttl is None else near.max_ttl)
    for tier in route.tiers[1:]:
        far = checked.stages["tier"][tier]
        if isinstance(far, FarTierConfig) and far.max_ttl is not None and far.max_ttl < nearest:
            message = (
                f'copies stay in "{tier}" for {format_seconds(far.max_ttl)}, but in "{route.tiers[0]}", '
                f"which is nearer, for {format_seconds(nearest)}; a max_ttl there that is no longer is usual"
            )
            yield ("tier", tier, "max_ttl"), message


def _beforehand(checked: Checker, name: str, route: RouteTable) -> Iterator[Finding]:
    host: tuple[int, str] | None = None
    for index, tier in enumerate(route.tiers):
        config = checked.stages["tier"][tier]
        if not isinstance(config, FarTierConfig):
            continue
        if config.scope == "host":
            host = host or (index, tier)
        elif config.scope == "shared" and host is not None:
            message = (
                f'"{host[1]}" is of this host alone and stands in front of "{tier}": it goes on answering '
                f'with what other hosts have changed, until that expires; a place behind "{tier}" is usual'
            )
            yield ("route", name, "tiers", host[0]), message
            return


def _unheard(checked: Checker, name: str, route: RouteTable) -> Iterator[Finding]:
    shared: str | None = None
    first = route.tiers[0]
    for index, tier in enumerate(route.tiers):
        config = checked.stages["tier"][tier]
        if not isinstance(config, FarTierConfig):
            continue
        if config.scope == "shared":
            if shared is None and isinstance(checked.stages["tier"][first], NearTierConfig):
                message = (
                    f'"{first}" stands in front of "{tier}", which other processes change, while '
                    '[cache] bus = "none": it serves old values until they expire; bus = "auto" is usual'
                )
                yield ("route", name, "tiers", 0), message
            shared = shared or tier
        elif shared is not None:
            message = (
                f'"{tier}" keeps what "{shared}" held once, and with [cache] bus = "none" is not told of '
                'changes that other hosts make; bus = "auto" is usual'
            )
            yield ("route", name, "tiers", index), message


def _hidden_keys(checked: Checker) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for name, route in checked.routes.items():
        for index, pattern in enumerate(route.keys):
            owner = first.setdefault(pattern, name)
            if owner != name:
                message = f'"{pattern}" never gets here: route "{owner}" takes the same keys before'
                yield ("route", name, "keys", index), message
            elif pattern in route.keys[:index]:
                yield ("route", name, "keys", index), f'"{pattern}" stands here twice; once is enough'


def _unused(checked: Checker) -> Iterator[Finding]:
    used = checked.used()
    for kind in KINDS:
        for name, config in checked.stages[kind].items():
            named = (kind, name)
            if named in used or named not in checked.declared or _useful_unused(checked, kind, config):
                continue
            yield (kind, name), "is declared and never used"


def _useful_unused(checked: Checker, kind: Kind, config: object) -> bool:
    if kind == "bus":
        return checked.cache.bus == "auto"
    # Some serializers read what they wrote earlier only where a document still declares them.
    return isinstance(config, SerializerConfig) and not config.reads_undeclared
