"""The whole cache in one object, by the flat interface."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self

from tiercache import MISSING, Cache, SyncCache, Warmed, warm
from tiercache_plugins.advanced.config import CacheConfig
from tiercache_plugins.advanced.default import DEFAULT
from tiercache_plugins.advanced.kinds import CacheType
from tiercache_plugins.advanced.statistics import told

Ttl = float | str | timedelta | None
"""Seconds, a timedelta, or text such as "1h"; None: that of the cache type."""

_DYNAMIC: Final = CacheType.DYNAMIC


class AdvancedCachingSystem:
    """A cache of several levels, as *config* describes it; without one, as the environment does.

    Call `initialize` on the event loop that is to use it, and `close` at the end, or use it as `async with`.
    The first one of a loop is the default cache of the decorators there. Where Redis does not answer, its
    level misses and the others go on; that is logged once, and once more when it is back.

    Raises ConfigError for settings that can't be.
    """

    def __init__(self, config: CacheConfig | None = None) -> None:
        self.config = CacheConfig() if config is None else config
        self._cache = self._opened()
        self._over = False
        self._watchers: tuple[Callable[[str], object], ...] = ()

    def _opened(self) -> Cache:
        return Cache.open(self.config.document())

    @property
    def cache(self) -> Cache:
        """The cache itself, for all that has no name here."""
        return self._cache

    @property
    def sync(self) -> SyncCache:
        """The cache for threads, answered by the event loop that it was initialized on."""
        return self._cache.sync

    async def initialize(self) -> Self:
        """Open every level. Safe to call twice; after `close` it opens them anew.

        Raises TierRefused where a level never will work as configured. A level that is only away does not
        stop it.
        """
        if not self._cache.is_open:
            if self._over:
                self._cache, self._over = self._opened(), False
            await self._cache.start()
            DEFAULT.offer(self._cache, self._opened)
        return self

    async def close(self) -> None:
        """Wait for what is under way, then close every level. Safe to call twice."""
        DEFAULT.withdraw(self._cache)
        self._over = True
        await self._cache.close()

    async def __aenter__(self) -> Self:
        return await self.initialize()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AdvancedCachingSystem {self._cache!r}>"

    async def get(self, key: str, cache_type: CacheType = _DYNAMIC, default: Any = None) -> Any:
        """Return the value of *key*, or *default* where nothing fresh is cached."""
        self.seen(key)
        return await self._cache.get(key, default, route=cache_type)

    async def get_many(self, keys: Iterable[str], cache_type: CacheType = _DYNAMIC) -> dict[str, Any]:
        """Return the values of those of *keys* that are cached, in one call a level."""
        wanted = list(keys)
        for key in wanted:
            self.seen(key)
        return await self._cache.get_many(wanted, route=cache_type)

    async def get_or_set(
        self,
        key: str,
        loader: Callable[..., Any],
        cache_type: CacheType = _DYNAMIC,
        ttl: Ttl = None,
        *,
        tags: Iterable[str] = (),
        fallback: Any = MISSING,
    ) -> Any:
        """Return the value of *key*; where nothing fresh is cached, load it, store it and return it.

        However many ask at once, one *loader* runs. All else is as with `Cache.get_or_set`.
        """
        self.seen(key)
        return await self._cache.get_or_set(
            key, loader, route=cache_type, ttl=ttl, tags=tags, fallback=fallback
        )

    async def set(
        self,
        key: str,
        value: Any,
        cache_type: CacheType = _DYNAMIC,
        ttl: Ttl = None,
        *,
        tags: Iterable[str] = (),
    ) -> None:
        """Store *value* in every level of its type. A level that fails is skipped and counted.

        Raises Unserializable where a level outside this process could not give the value back as it is.
        """
        await self._cache.set(key, value, route=cache_type, ttl=ttl, tags=tags)

    async def set_many(
        self,
        values: Mapping[str, Any],
        cache_type: CacheType = _DYNAMIC,
        ttl: Ttl = None,
        *,
        tags: Iterable[str] = (),
    ) -> None:
        """Store all *values*, in few calls a level."""
        await self._cache.set_many(values, route=cache_type, ttl=ttl, tags=tags)

    async def delete(self, key: str) -> bool:
        """Drop *key* from every level; return whether it was there."""
        return await self._cache.delete(key)

    async def exists(self, key: str, cache_type: CacheType = _DYNAMIC) -> bool:
        """Return whether something fresh is cached under *key*."""
        return await self._cache.exists(key, route=cache_type)

    async def increment(
        self, key: str, delta: int = 1, cache_type: CacheType = CacheType.TEMPORARY, ttl: Ttl = None
    ) -> int:
        """Add *delta* to the integer under *key* and return the sum; see `Cache.increment`."""
        return await self._cache.increment(key, delta, route=cache_type, ttl=ttl)

    async def invalidate_pattern(self, pattern: str) -> int | None:
        """Drop what the glob *pattern* matches. Return how many keys there were; None where the pattern is
        a beginning and a star, such as "user:*", because then nobody has to count.
        """
        return await self._cache.invalidate(match=pattern)

    async def invalidate_tags(self, *tags: str) -> None:
        """Drop what carries one of *tags*."""
        await self._cache.invalidate(tags=tags)

    async def warmup_cache(
        self,
        data: Mapping[str, Any],
        cache_type: CacheType = CacheType.STATIC,
        ttl: Ttl = None,
        *,
        concurrency: int = 64,
        progress: Callable[[Warmed], object] | None = None,
    ) -> Warmed:
        """Store all of *data*. A key that fails is logged and counted, and the others go on; the result says
        how many were stored and how many failed. *progress* is told after each. See `tiercache.warm`, and
        `tiercache.warm_by` for loaders, `tiercache.read_lines` for files.
        """
        return await warm(
            self._cache, data, route=cache_type, ttl=ttl, concurrency=concurrency, progress=progress
        )

    async def clear(self) -> None:
        """Drop everything from every level."""
        await self._cache.clear()

    def get_comprehensive_stats(self) -> dict[str, dict[str, Any]]:
        """Return what was counted since `initialize`, by level.

        "overall" has `hits`, `misses`, `hit_rate`, `sets`, `loads` and, as `cache_patterns`, the reads by
        cache type; "memory" has `size`, `max_size`, `evictions`; "redis" and "disk" have `available` and
        `errors`, "disk" also `file_count` (files), `entries` and `size_bytes`. All three have `enabled`,
        `hits`, `misses` and `hit_rate`.
        """
        return told(self._cache.stats(), self.config)

    def watch(self, watcher: Callable[[str], object]) -> None:
        """Call *watcher* with each key that is read through this object. It must be quick, and not block."""
        self._watchers = (*self._watchers, watcher)

    def seen(self, key: str) -> None:
        """Tell all watchers that *key* was read."""
        for watcher in self._watchers:
            watcher(key)
