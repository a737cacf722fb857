"""Refresh-ahead: what is read and will soon expire is loaded anew in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from tiercache import MISSING, Cache, CheckContext, Context, Pattern, PatternConfig, hookimpl
from tiercache.units import seconds
from tiercache_plugins.patterns.face import Face, HoldsCache
from tiercache_plugins.patterns.read_through import Supplied
from tiercache_plugins.patterns.source import FunctionRef, Glob, Loaders, function_of, problems

log = logging.getLogger("tiercache.patterns")


class RefreshAhead:
    """Reads keys by loaders that are registered for them, and loads anew what has passed *share* of its life.

    *cache_system* is an `AdvancedCachingSystem` or a `Cache`; *cache_type* is the route, None: the key's own;
    *config* may be left out. *ttl* is how long what it loads is fresh, and what *share* is of.
    """

    def __init__(
        self,
        cache_system: Cache | HoldsCache,
        config: object = None,
        *,
        ttl: float | str | timedelta = 3600.0,
        share: float = 0.8,
        cache_type: str | None = None,
    ) -> None:
        del config
        if not 0 < share < 1:
            raise ValueError(f"share is {share}; a number between 0 and 1 is accepted, such as 0.8")
        self._face = Face(cache_system, cache_type)
        self._loaders = Loaders()
        self._ttl = seconds(ttl)
        self._left = self._ttl * (1 - share)
        self._refreshing: dict[str, asyncio.Task[Any]] = {}
        self.failures = 0
        """Refreshes that failed. What was cached is served until it expires."""

    def register(self, pattern: str, loader: Callable[..., Any]) -> None:
        """Let *loader*, called with the key, load the keys that the glob *pattern* matches. The first pattern
        that matches decides. A loader that is not async runs in a thread.
        """
        self._loaders.register(pattern, loader)

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*, loaded and stored where nothing fresh is cached; *default* where nothing
        loads it, or the loader brings MISSING. Raises what the loader raises where nothing is cached.
        """
        self._face.seen(key)
        cache, route, loader = self._face.cache, self._face.route, self._loaders.loader(key)
        value = await cache.get(key, MISSING, route=route)
        if value is MISSING:
            if loader is None:
                return default
            value = await cache.get_or_set(key, loader, route=route, ttl=self._ttl)
            return default if value is MISSING else value
        if loader is not None and key not in self._refreshing:
            remaining = await cache.ttl(key, route=route)
            if remaining is not None and remaining <= self._left and key not in self._refreshing:
                task = asyncio.get_running_loop().create_task(self._refresh(cache, key, loader))
                self._refreshing[key] = task
        return value

    async def settle(self) -> None:
        """Wait for the refreshes that are under way."""
        await asyncio.gather(*self._refreshing.values())

    async def _refresh(self, cache: Cache, key: str, loader: Callable[[], Any]) -> None:
        try:
            await cache.refresh(key, loader, route=self._face.route, ttl=self._ttl)
        except Exception as error:  # noqa: BLE001 - nobody waits; what is cached goes on being served
            self.failures += 1
            log.warning("%r was not refreshed: %s: %s", key, type(error).__name__, error)
        finally:
            del self._refreshing[key]


class RefreshAheadConfig(PatternConfig):
    """Reads of what will soon expire load it anew in the background."""

    type: Literal["refresh_ahead"] = "refresh_ahead"
    loaders: dict[Glob, FunctionRef] = Field(
        min_length=1,
        description='Functions by the keys that they load, such as `"user:*" = "shop.store:load"`. Each is '
        "called with the key; the first pattern that matches decides.",
    )
    share: float = Field(
        0.8, gt=0, lt=1,
        description="Share of a life after which a read refreshes. The route's `refresh_ahead` wins; on such "
        "a route `get_or_set` refreshes too.",
    )  # fmt: skip

    def check(self, context: CheckContext) -> Iterable[tuple[str, str]]:
        """Find functions that can't be imported."""
        del context
        return problems(loaders=self.loaders.values())

    def build(self, context: Context) -> Pattern:
        """Return the pattern."""
        del context
        loaders = Loaders({pattern: function_of(name) for pattern, name in self.loaders.items()})
        return Supplied(loaders, on_miss=False, ahead=self.share)


@hookimpl
def tiercache_patterns() -> Iterable[type[PatternConfig]]:
    """Return the pattern of this module."""
    return (RefreshAheadConfig,)
