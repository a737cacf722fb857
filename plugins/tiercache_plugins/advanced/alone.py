"""One level by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta
from types import TracebackType
from typing import Any, ClassVar, Self

from tiercache import Cache
from tiercache_plugins.advanced.config import CacheConfig, Level
from tiercache_plugins.advanced.statistics import told


class Alone:
    """A cache of one level. It opens at the first call, for the event loop that this is made on.

    Close it, or use it as `async with`. What it keeps outside the process under the same settings is what an
    `AdvancedCachingSystem` keeps there. Values without a *ttl* are fresh for `dynamic_ttl`.
    """

    level: ClassVar[Level]

    def __init__(self, config: CacheConfig | None = None) -> None:
        self.config = CacheConfig() if config is None else config
        self._cache = Cache.open(self.config.document_of(self.level))
        self._opening: asyncio.Task[Cache] | None = None

    async def _open(self) -> Cache:
        if self._cache.is_open:
            return self._cache
        if self._opening is None:
            # One that several wait for: the first of them to be cancelled must not take it along.
            self._opening = asyncio.get_running_loop().create_task(self._cache.start())
            self._opening.add_done_callback(self._forget)
        return await asyncio.shield(self._opening)

    def _forget(self, opened: asyncio.Task[Cache]) -> None:
        self._opening = None
        if not opened.cancelled():
            # Those who wait have it from the task; where nobody does, it must not be called lost.
            opened.exception()

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*, or *default* where nothing fresh is cached."""
        return await (await self._open()).get(key, default)

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values of those of *keys* that are cached."""
        return await (await self._open()).get_many(keys)

    async def get_or_set(
        self, key: str, loader: Callable[..., Any], ttl: float | str | timedelta | None = None
    ) -> Any:
        """Return the value of *key*; where nothing fresh is cached, load it, store it and return it."""
        return await (await self._open()).get_or_set(key, loader, ttl=ttl)

    async def set(self, key: str, value: Any, ttl: float | str | timedelta | None = None) -> None:
        """Store *value*. Raises Unserializable where it could not be given back as it is."""
        await (await self._open()).set(key, value, ttl=ttl)

    async def delete(self, key: str) -> bool:
        """Drop *key*; return whether it was there."""
        return await (await self._open()).delete(key)

    async def exists(self, key: str) -> bool:
        """Return whether something fresh is cached under *key*."""
        return await (await self._open()).exists(key)

    async def clear(self) -> None:
        """Drop everything."""
        await (await self._open()).clear()

    def get_stats(self) -> dict[str, Any]:
        """Return what was counted, as `AdvancedCachingSystem.get_comprehensive_stats` has it by level."""
        return told(self._cache.stats(), self.config)[self.level]

    async def close(self) -> None:
        """Close it. Safe to call twice, and where it never was open."""
        if self._opening is not None:
            await asyncio.wait([self._opening])
        await self._cache.close()

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class MemoryCache(Alone):
    """Objects in this process, and nothing else."""

    level: ClassVar[Level] = "memory"


class RedisCache(Alone):
    """Redis or Valkey, and nothing else. Raises ValueError without a `redis_url`.

    Where the server does not answer, reads miss and writes are made good later; that is logged once.
    """

    level: ClassVar[Level] = "redis"


class DiskCache(Alone):
    """A file on this host, and nothing else. Raises ValueError without a `disk_cache_dir`."""

    level: ClassVar[Level] = "disk"
