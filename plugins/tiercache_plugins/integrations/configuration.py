"""ConfigCache: named pieces of configuration, shared by all who use the cache."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tiercache_plugins.integrations.source import cache_of


class ConfigCache:
    """Configuration by name in the cache of *source*, on *route*, under keys that begin with *prefix*.

    What is set stays until it is set anew or dropped, but it is in a cache: a tier may give it up where it
    has no room, so keep where it comes from. *prefix* must hold none of the characters that globs use.

    Raises ValueError for a *prefix* that is empty or holds one of them.
    """

    def __init__(self, source: Any, *, route: str | None = None, prefix: str = "config:") -> None:
        if not prefix or set(prefix) & set("*?[]\\"):
            raise ValueError(
                f'{prefix!r} is no prefix; text without * ? [ ] \\, such as "config:", is accepted'
            )
        self._source = source
        self._route = route
        self._prefix = prefix
        self._reads = self._writes = 0

    async def set_config(self, name: str, value: Any, *, ttl: float | str | timedelta = "never") -> None:
        """Store *value*, any that the cache can store, as the configuration *name*.

        Raises as `Cache.set` does.
        """
        self._writes += 1
        await cache_of(self._source).set(self._prefix + name, value, route=self._route, ttl=ttl)

    async def get_config(self, name: str, default: Any = None) -> Any:
        """Return the configuration *name*, or *default* where there is none."""
        self._reads += 1
        return await cache_of(self._source).get(self._prefix + name, default, route=self._route)

    async def get_all_configs(self) -> dict[str, Any]:
        """Return all configurations by name, in the order of their names. Lists the keys of every tier."""
        cache = cache_of(self._source)
        names = sorted([key async for key in cache.keys(f"{self._prefix}*")])
        self._reads += 1
        found: Mapping[str, Any] = await cache.get_many(names, route=self._route)
        return {key[len(self._prefix) :]: value for key, value in found.items()}

    async def delete_config(self, name: str) -> bool:
        """Drop the configuration *name*; return whether there was one."""
        self._writes += 1
        return await cache_of(self._source).delete(self._prefix + name)

    def stats(self) -> dict[str, Any]:
        """Return what was asked for here, in this process."""
        return {"prefix": self._prefix, "reads": self._reads, "writes": self._writes}
