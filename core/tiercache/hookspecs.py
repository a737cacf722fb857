"""The hooks of a plugin: one a kind, each returning configuration classes.

A plugin is a module named by an entry point of the group `tiercache`:

    from tiercache import FarTierConfig, hookimpl

    class ShelfConfig(FarTierConfig):
        type: Literal["shelf"] = "shelf"
        ...

    @hookimpl
    def tiercache_tiers():
        return [ShelfConfig]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tiercache.contracts import (
        BusConfig,
        CompressorConfig,
        PatternConfig,
        PolicyConfig,
        SerializerConfig,
        TierConfig,
    )

GROUP: Final = "tiercache"
"""The entry point group of plugins."""

hookspec = pluggy.HookspecMarker("tiercache")
hookimpl = pluggy.HookimplMarker("tiercache")
"""Marks a function of a plugin as the implementation of the hook of its name."""


@hookspec
def tiercache_tiers() -> Iterable[type[TierConfig]]:
    """Return the tier types that this plugin provides."""
    return ()


@hookspec
def tiercache_serializers() -> Iterable[type[SerializerConfig]]:
    """Return the serializer types that this plugin provides."""
    return ()


@hookspec
def tiercache_compressors() -> Iterable[type[CompressorConfig]]:
    """Return the compressor types that this plugin provides."""
    return ()


@hookspec
def tiercache_policies() -> Iterable[type[PolicyConfig]]:
    """Return the eviction policy types that this plugin provides."""
    return ()


@hookspec
def tiercache_patterns() -> Iterable[type[PatternConfig]]:
    """Return the pattern types that this plugin provides."""
    return ()


@hookspec
def tiercache_buses() -> Iterable[type[BusConfig]]:
    """Return the bus types that this plugin provides."""
    return ()
