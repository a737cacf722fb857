"""Entry points → the configuration class of each (kind, type). The only user of pluggy's manager.

Built-in plugins come the same way as everybody's. Loading imports the modules that hold configuration
classes, and no driver.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, Final

import pluggy

from tiercache import hookspecs
from tiercache.contracts import (
    KINDS,
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
from tiercache.errors import PluginError

HOOKS: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        "tier": "tiercache_tiers",
        "serializer": "tiercache_serializers",
        "compressor": "tiercache_compressors",
        "policy": "tiercache_policies",
        "pattern": "tiercache_patterns",
        "bus": "tiercache_buses",
    }
)
"""The hook that provides each kind."""

_BASES: Final[Mapping[Kind, tuple[type[StageConfig], ...]]] = MappingProxyType(
    {
        "tier": (NearTierConfig, FarTierConfig),
        "serializer": (SerializerConfig,),
        "compressor": (CompressorConfig,),
        "policy": (PolicyConfig,),
        "pattern": (PatternConfig,),
        "bus": (BusConfig,),
    }
)


@dataclass(frozen=True, slots=True)
class Offer:
    """One type that one plugin provides."""

    kind: Kind
    config: type[StageConfig]
    plugin: str
    """Name of the entry point: what `[plugins] disabled` takes."""

    @property
    def type(self) -> str:
        """What `type = "…"` selects it by."""
        return self.config.type_name()


@dataclass(frozen=True, slots=True)
class Registry:
    """What the installed plugins provide. Immutable; make one with `load` or `of`."""

    offers: tuple[Offer, ...]
    """Every type, sorted by kind and name; a type that two plugins claim stands there twice."""
    broken: Mapping[str, Exception] = field(default_factory=dict)
    """Plugins that could not be imported or are not valid, and why. Nobody who needs none of them notices."""
    disabled: frozenset[str] = frozenset()
    """Plugins that were left out by name."""
    distributions: Mapping[str, str] = field(default_factory=dict)
    """Name and version of the distribution that each plugin came with."""

    @classmethod
    def load(cls, disabled: Collection[str] = (), points: Iterable[EntryPoint] | None = None) -> Registry:
        """Return what the entry points of the group `tiercache` provide, less those named in *disabled*.

        *points* replaces the installed entry points. Raises PluginError where two distributions use the same
        entry point name. A plugin that fails is kept in `broken`.
        """
        plugins: dict[str, Any] = {}
        broken: dict[str, Exception] = {}
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=hookspecs.GROUP) if points is None else points:
            other = found.setdefault(point.name, point)
            if other is not point and (other.value, _distribution(other)) != (
                point.value,
                _distribution(point),
            ):
                raise PluginError(
                    f'two plugins are called "{point.name}": one of {_distribution(other)}, '
                    f"one of {_distribution(point)}; uninstall either"
                )
        for name, point in found.items():
            if name in disabled:
                continue
            try:
                plugins[name] = point.load()
            except Exception as error:  # noqa: BLE001  whatever a stranger's module raises, others go on
                broken[name] = error
        return cls._collect(
            plugins,
            broken,
            frozenset(disabled) & frozenset(found),
            {name: _distribution(point) for name, point in found.items()},
        )

    @classmethod
    def of(cls, plugins: Mapping[str, Any], disabled: Collection[str] = ()) -> Registry:
        """Return what *plugins* provide: modules, or other objects with hook implementations, by name."""
        used = {name: plugin for name, plugin in plugins.items() if name not in disabled}
        return cls._collect(used, {}, frozenset(disabled) & frozenset(plugins), {})

    @classmethod
    def _collect(
        cls,
        plugins: Mapping[str, Any],
        broken: dict[str, Exception],
        disabled: frozenset[str],
        distributions: Mapping[str, str],
    ) -> Registry:
        offers: list[Offer] = []
        for name, plugin in plugins.items():
            try:
                offers.extend(_offers(name, plugin))
            except Exception as error:  # noqa: BLE001  as in `load`
                broken[name] = error
        offers.sort(key=lambda offer: (KINDS.index(offer.kind), offer.type, offer.plugin))
        return cls(
            tuple(offers),
            MappingProxyType(dict(sorted(broken.items()))),
            disabled,
            MappingProxyType(dict(distributions)),
        )

    def without(self, disabled: Collection[str]) -> Registry:
        """Return this registry less the plugins named in *disabled*."""
        names = frozenset(disabled)
        if not names:
            return self
        return Registry(
            tuple(offer for offer in self.offers if offer.plugin not in names),
            MappingProxyType({name: error for name, error in self.broken.items() if name not in names}),
            self.disabled | (names & frozenset(self.plugins)),
            self.distributions,
        )

    @property
    def plugins(self) -> tuple[str, ...]:
        """Names of all plugins found: working, broken and disabled; sorted."""
        names = {offer.plugin for offer in self.offers}
        return tuple(sorted({*names, *self.broken, *self.disabled, *self.distributions}))

    def get(self, kind: Kind, type: str) -> type[StageConfig] | None:  # noqa: A002  the document's own word
        """Return the configuration class of *type*; None where nobody provides it.

        Raises PluginError where two plugins do.
        """
        found = self._claims(kind, type)
        if len(found) > 1:
            names = " and ".join(f'"{offer.plugin}"{self._of(offer.plugin)}' for offer in found)
            raise PluginError(
                f'{kind} type "{type}" is provided by the plugins {names}; '
                f'disable one: [plugins] disabled = ["{found[-1].plugin}"]'
            )
        return found[0].config if found else None

    def types(self, kind: Kind) -> tuple[str, ...]:
        """Return the types available for *kind*, sorted."""
        return tuple(sorted({offer.type for offer in self.offers if offer.kind == kind}))

    def provider(self, kind: Kind, type: str) -> str:  # noqa: A002  the document's own word
        """Return the name of the plugin that provides *type*. Raises KeyError where none does."""
        for offer in self._claims(kind, type):
            return offer.plugin
        raise KeyError((kind, type))

    def conflicts(self) -> tuple[tuple[Offer, ...], ...]:
        """Return the offers of each type that more than one plugin provides."""
        claims: dict[tuple[Kind, str], list[Offer]] = {}
        for offer in self.offers:
            claims.setdefault((offer.kind, offer.type), []).append(offer)
        return tuple(tuple(offers) for offers in claims.values() if len(offers) > 1)

    def _claims(self, kind: Kind, type: str) -> list[Offer]:  # noqa: A002  the document's own word
        return [offer for offer in self.offers if (offer.kind, offer.type) == (kind, type)]

    def _of(self, plugin: str) -> str:
        distribution = self.distributions.get(plugin)
        return f" of {distribution}" if distribution else ""


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


def _offers(name: str, plugin: Any) -> list[Offer]:
    # A manager for each plugin: what one has wrong is then its own, and found before the others are asked.
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, name)
    manager.check_pending()
    offers: dict[tuple[Kind, str], Offer] = {}
    for kind in KINDS:
        for implementation in getattr(manager.hook, HOOKS[kind]).get_hookimpls():
            for config in implementation.function():
                _check(kind, config)
                offer = Offer(kind, config, name)
                if offers.setdefault((kind, offer.type), offer) is not offer:
                    raise PluginError(f'{HOOKS[kind]} returns the type "{offer.type}" twice')
    return list(offers.values())


def _check(kind: Kind, config: Any) -> None:
    if not inspect.isclass(config) or not issubclass(config, _BASES[kind]):
        bases = " or ".join(base.__name__ for base in _BASES[kind])
        raise PluginError(f"{HOOKS[kind]} returns {config!r}; a subclass of {bases} is accepted")
    option = config.model_fields.get("type")
    if option is None or not isinstance(option.default, str) or not option.default:
        raise PluginError(
            f'{config.__name__} has no type; `type: Literal["name"] = "name"` among its options is accepted'
        )
    if kind == "compressor" and option.default == "none":
        raise PluginError(f'{config.__name__} takes the type "none", which means no compressor')
