"""The cache that a pattern is given in Python: a `Cache`, or what holds one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from tiercache import Cache


@runtime_checkable
class HoldsCache(Protocol):
    """Such as an `AdvancedCachingSystem`."""

    @property
    def cache(self) -> Cache:
        """The cache."""
        ...


@runtime_checkable
class TellsReads(Protocol):
    """What tells of the keys that are read through it."""

    def watch(self, watcher: Callable[[str], object]) -> None:
        """Call *watcher* with each key that is read."""
        ...

    def seen(self, key: str) -> None:
        """Tell all watchers that *key* was read."""
        ...


class Face:
    """A cache, and the route that a pattern's keys travel on."""

    def __init__(self, system: Cache | HoldsCache, cache_type: str | None) -> None:
        self._system = system
        self.route = None if cache_type is None else str(cache_type)
        """Name of the route; None: that of the key."""
        self._told = system.seen if isinstance(system, TellsReads) else None

    @property
    def cache(self) -> Cache:
        """The cache, as it is now: one that is initialized again is another."""
        return self._system if isinstance(self._system, Cache) else self._system.cache

    def seen(self, key: str) -> None:
        """Tell others that *key* was asked for."""
        if self._told is not None:
            self._told(key)

    def watch(self, watcher: Callable[[str], object]) -> bool:
        """Let *watcher* be told of reads; return whether anybody tells of them."""
        if not isinstance(self._system, TellsReads):
            return False
        self._system.watch(watcher)
        return True


def setting(config: Any, name: str, otherwise: Any) -> Any:
    """Return the setting *name* of *config*, which may be None; *otherwise* where it has none."""
    return getattr(config, name, otherwise)
