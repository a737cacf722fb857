"""Decorators by cache type, for the default cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from tiercache import Decorator, cached_by
from tiercache_plugins.advanced.default import DEFAULT
from tiercache_plugins.advanced.kinds import CacheType


def cache_result(
    ttl: float | str | timedelta | None = None,
    cache_type: CacheType = CacheType.DYNAMIC,
    *,
    key: str | Callable[..., str] | None = None,
    tags: Iterable[str] | Callable[..., Iterable[str]] = (),
    stale: float | str | timedelta | None = None,
    ignore: Sequence[str] = (),
    version: int | str = 1,
) -> Decorator:
    """Return a decorator for functions and methods, sync or async, that caches what they return.

    It uses the default cache, which it looks for when the function is called: the first
    `AdvancedCachingSystem` that was initialized on the running event loop; where there is none, one is opened
    as the first of the process was, or from the nearest tiercache.toml. So it can stand at module level.
    A function that no loop calls uses the default cache of a loop in another thread, or one of its own.

    *ttl* is how long a result is fresh; None: as long as its type is. All else, and what the decorated
    function can do besides, is as with `tiercache.Cache.cached`, and so is what is raised for functions that
    can't be cached. Where neither a cache nor a configuration is found, the call raises ConfigError; where
    the configuration has no route of the type's name, ValueError.
    """
    return cached_by(
        DEFAULT, ttl=ttl, stale=stale, key=key, tags=tags, route=cache_type, ignore=ignore, version=version
    )


def static_cache(
    ttl: float | str | timedelta | None = None,
    *,
    key: str | Callable[..., str] | None = None,
    tags: Iterable[str] | Callable[..., Iterable[str]] = (),
    stale: float | str | timedelta | None = None,
    ignore: Sequence[str] = (),
    version: int | str = 1,
) -> Decorator:
    """`cache_result` for what changes with a release."""
    return cache_result(
        ttl, CacheType.STATIC, key=key, tags=tags, stale=stale, ignore=ignore, version=version
    )


def dynamic_cache(
    ttl: float | str | timedelta | None = None,
    *,
    key: str | Callable[..., str] | None = None,
    tags: Iterable[str] | Callable[..., Iterable[str]] = (),
    stale: float | str | timedelta | None = None,
    ignore: Sequence[str] = (),
    version: int | str = 1,
) -> Decorator:
    """`cache_result` for what changes while the application runs."""
    return cache_result(
        ttl, CacheType.DYNAMIC, key=key, tags=tags, stale=stale, ignore=ignore, version=version
    )


def computed_cache(
    ttl: float | str | timedelta | None = None,
    *,
    key: str | Callable[..., str] | None = None,
    tags: Iterable[str] | Callable[..., Iterable[str]] = (),
    stale: float | str | timedelta | None = None,
    ignore: Sequence[str] = (),
    version: int | str = 1,
) -> Decorator:
    """`cache_result` for what is expensive to make."""
    return cache_result(
        ttl, CacheType.COMPUTED, key=key, tags=tags, stale=stale, ignore=ignore, version=version
    )


def temporary_cache(
    ttl: float | str | timedelta | None = None,
    *,
    key: str | Callable[..., str] | None = None,
    tags: Iterable[str] | Callable[..., Iterable[str]] = (),
    stale: float | str | timedelta | None = None,
    ignore: Sequence[str] = (),
    version: int | str = 1,
) -> Decorator:
    """`cache_result` for what never leaves the process."""
    return cache_result(
        ttl, CacheType.TEMPORARY, key=key, tags=tags, stale=stale, ignore=ignore, version=version
    )
