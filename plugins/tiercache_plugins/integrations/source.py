"""Where an integration finds its cache: what applications hold is a `Cache`, or has one."""

from __future__ import annotations

from typing import Any

from tiercache import Cache, SyncCache


def cache_of(source: Any) -> Cache:
    """Return *source* where it is a `Cache`, else what it has as `cache`.

    Raises TypeError where that is none.
    """
    found = source if isinstance(source, Cache) else getattr(source, "cache", None)
    if not isinstance(found, Cache):
        raise TypeError(f"{type(source).__name__} has no cache; a Cache, or what has one as `cache`, has")
    return found


class Found:
    """Finds, for decorated functions, the cache that *source* has when they are called."""

    __slots__ = ("_source",)

    def __init__(self, source: Any) -> None:
        self._source = source

    def near(self) -> Cache | None:
        """Return the cache where it is open."""
        cache = cache_of(self._source)
        return cache if cache.is_open else None

    async def cache(self) -> Cache:
        """Return the cache; one that is not open says so at the call."""
        return cache_of(self._source)

    def face(self) -> SyncCache:
        """Return the cache for threads."""
        return cache_of(self._source).sync
