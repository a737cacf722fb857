"""Which bus tells of which tier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from tiercache.config.report import Finding
from tiercache.contracts import BusConfig, FarTierConfig, Kind, NearTierConfig, StageConfig

if TYPE_CHECKING:
    from tiercache.config.registry import Registry
    from tiercache.config.tables import RouteTable

Stages = Mapping[Kind, Mapping[str, StageConfig]]


def followed(stages: Stages, routes: Iterable[RouteTable]) -> dict[str, FarTierConfig]:
    """Return the tiers whose changes by others concern a copy somewhere: the authorities of routes that keep
    one near, or in a tier of the host behind a shared one.
    """
    found: dict[str, FarTierConfig] = {}
    for route in routes:
        # A route that is not right may have none.
        names = getattr(route, "tiers", ())
        configs = [(name, stages["tier"][name]) for name in names if name in stages["tier"]]
        fars = [(name, config) for name, config in configs if isinstance(config, FarTierConfig)]
        if not fars:
            continue
        shared = [pair for pair in fars if pair[1].scope == "shared"]
        name, config = (shared or fars)[0]
        near = getattr(route, "near", True) is True and any(
            isinstance(other, NearTierConfig) for _, other in configs
        )
        if near or (shared and len(fars) > 1):
            found[name] = config
    return found


def buses(
    chosen: str, stages: Stages, routes: Iterable[RouteTable], registry: Registry
) -> dict[str, tuple[str, BusConfig]]:
    """Return name and configuration of the bus of each tier that has one; *chosen* is `[cache] bus`."""
    if chosen == "none":
        return {}
    declared = {name: bus for name, bus in stages["bus"].items() if isinstance(bus, BusConfig)}
    if chosen != "auto":
        declared = {name: bus for name, bus in declared.items() if name == chosen}
    found: dict[str, tuple[str, BusConfig]] = {}
    for tier, config in followed(stages, routes).items():
        fitting = [(name, bus) for name, bus in declared.items() if fits(bus, tier, config)]
        named = [pair for pair in fitting if pair[1].tier is not None]
        if fitting:
            found[tier] = (named or fitting)[0]
        elif chosen == "auto" and (undeclared := _undeclared(config, registry)) is not None:
            found[tier] = (undeclared.type_name(), undeclared)
    return found


def fits(bus: BusConfig, tier: str, config: StageConfig) -> bool:
    """Whether *bus* can tell the changes of the tier called *tier*."""
    return bus.carries == config.type_name() and bus.tier in {None, tier}


def misfits(chosen: str, stages: Stages, routes: Iterable[RouteTable]) -> Iterator[Finding]:
    """Yield what is wrong with the declared buses."""
    tiers = followed(stages, routes)
    for name, bus in stages["bus"].items():
        if not isinstance(bus, BusConfig):
            continue
        named = None if bus.tier is None else stages["tier"].get(bus.tier)
        if named is not None and named.type_name() != bus.carries:
            message = (
                f'"{bus.tier}" is a tier of type "{named.type_name()}"; a bus of type "{bus.type_name()}" '
                f'tells the changes of tiers of type "{bus.carries}"'
            )
            yield ("bus", name, "tier"), message
        elif name == chosen and not any(fits(bus, tier, config) for tier, config in tiers.items()):
            message = (
                f'"{name}" has nothing to tell: no route keeps copies of what is in a tier of type '
                f'"{bus.carries}"; "auto" or "none" is accepted'
            )
            yield ("cache", "bus"), message


def _undeclared(config: FarTierConfig, registry: Registry) -> BusConfig | None:
    for type_name in registry.types("bus"):
        model = registry.get("bus", type_name)
        if model is not None and issubclass(model, BusConfig) and model.carries == config.type_name():
            return model.model_validate({})
    return None
