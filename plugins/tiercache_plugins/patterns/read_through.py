"""Read-through: the cache knows where values come from, so that a plain read loads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from tiercache import MISSING, Cache, CheckContext, Context, Pattern, PatternConfig, hookimpl
from tiercache_plugins.patterns.face import Face, HoldsCache
from tiercache_plugins.patterns.source import FunctionRef, Glob, Loaders, function_of, problems


class ReadThrough:
    """Reads keys by loaders that are registered for them.

    *cache_system* is an `AdvancedCachingSystem` or a `Cache`; *cache_type* is the route, None: the key's own.
    *config* may be left out.
    """

    def __init__(
        self, cache_system: Cache | HoldsCache, config: object = None, *, cache_type: str | None = None
    ) -> None:
        del config
        self._face = Face(cache_system, cache_type)
        self._loaders = Loaders()

    def register(self, pattern: str, loader: Callable[..., Any]) -> None:
        """Let *loader*, called with the key, load the keys that the glob *pattern* matches. The first pattern
        that matches decides. A loader that is not async runs in a thread.
        """
        self._loaders.register(pattern, loader)

    async def get(self, key: str, default: Any = None, *, ttl: float | str | timedelta | None = None) -> Any:
        """Return the value of *key*, loaded and stored where nothing fresh is cached; *default* where nothing
        loads it, or the loader brings MISSING. Raises what the loader raises.
        """
        self._face.seen(key)
        loader = self._loaders.loader(key)
        if loader is None:
            return await self._face.cache.get(key, default, route=self._face.route)
        value = await self._face.cache.get_or_set(key, loader, route=self._face.route, ttl=ttl)
        return default if value is MISSING else value


class ReadThroughConfig(PatternConfig):
    """Reads without a loader load what is not cached."""

    type: Literal["read_through"] = "read_through"
    loaders: dict[Glob, FunctionRef] = Field(
        min_length=1,
        description='Functions by the keys that they load, such as `"user:*" = "shop.store:load"`. Each is '
        "called with the key; the first pattern that matches decides.",
    )

    def check(self, context: CheckContext) -> Iterable[tuple[str, str]]:
        """Find functions that can't be imported."""
        del context
        return problems(loaders=self.loaders.values())

    def build(self, context: Context) -> Pattern:
        """Return the pattern."""
        del context
        return Supplied(Loaders({pattern: function_of(name) for pattern, name in self.loaders.items()}))


class Supplied:
    """The pattern as a stage of a route."""

    def __init__(self, loaders: Loaders, *, on_miss: bool = True, ahead: float | None = None) -> None:
        self.on_miss = on_miss
        """Whether a read that finds nothing loads."""
        self.ahead = ahead
        """Share of a life after which a read starts a load in the background."""
        self.loader = loaders.loader


@hookimpl
def tiercache_patterns() -> Iterable[type[PatternConfig]]:
    """Return the pattern of this module."""
    return (ReadThroughConfig,)
