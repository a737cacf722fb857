"""Cache-aside: readers load what is not cached; writers change the source and drop the key."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from tiercache import MISSING, Cache, CheckContext, Context, Life, Pattern, PatternConfig, Save, hookimpl
from tiercache_plugins.patterns.face import Face, HoldsCache
from tiercache_plugins.patterns.source import FunctionRef, called, function_of, problems
from tiercache_plugins.patterns.through import through
from tiercache_plugins.patterns.turns import Turns


class CacheAsidePattern:
    """Reads through a cache, and changes its source beside it.

    *cache_system* is an `AdvancedCachingSystem` or a `Cache`; *cache_type* is the route, None: the key's own.
    *config* is taken for the sake of symmetry with the other patterns, and may be left out.
    """

    def __init__(
        self, cache_system: Cache | HoldsCache, config: object = None, *, cache_type: str | None = None
    ) -> None:
        del config
        self._face = Face(cache_system, cache_type)
        self._turns = Turns()

    async def get(
        self,
        key: str,
        loader: Callable[..., Any],
        *args: Any,
        ttl: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
        fallback: Any = MISSING,
    ) -> Any:
        """Return the value of *key*; where nothing fresh is cached, `loader(*args)`, which is stored.

        However many ask at once, one loader runs. A loader that is not async runs in a thread. Raises what
        the loader raises, unless there is a stale copy or a *fallback*.
        """
        self._face.seen(key)
        return await self._face.cache.get_or_set(
            key, lambda: called(loader, *args), route=self._face.route, ttl=ttl, tags=tags, fallback=fallback
        )

    async def update(self, key: str, value: Any, saver: Callable[..., Any]) -> None:
        """Give *value* to the source by `saver(key, value)`, then drop *key*, so that the next reader loads.

        Where the source fails, its error is raised, and the cache is as it was.
        """
        cache = self._face.cache
        async with self._turns.of(key):
            await through(
                lambda: called(saver, key, value), lambda: _drop(cache, key), lambda: _drop(cache, key)
            )

    async def invalidate(self, key: str) -> bool:
        """Drop *key*; return whether it was cached."""
        return await self._face.cache.delete(key)


async def _drop(cache: Cache, key: str) -> None:
    await cache.delete(key)


class CacheAsideConfig(PatternConfig):
    """A store goes to the source and drops the key from the cache, so that the next reader loads it."""

    type: Literal["cache_aside"] = "cache_aside"
    writer: FunctionRef = Field(
        description='What changes the source: "package.module:function", called with key and value.'
    )

    def check(self, context: CheckContext) -> Iterable[tuple[str, str]]:
        """Find a function that can't be imported."""
        del context
        return problems(writer=self.writer)

    def build(self, context: Context) -> Pattern:
        """Return the pattern."""
        del context
        return Aside(function_of(self.writer))


class Aside:
    """The pattern as a stage of a route."""

    def __init__(self, writer: Callable[..., Any]) -> None:
        self._writer = writer
        self._turns = Turns()
        self._cache: Cache | None = None

    async def open(self, cache: Any) -> None:
        """Take note of the cache."""
        self._cache = cache

    async def close(self) -> None:
        """Nothing is left to end."""

    def around_save(self, save: Save) -> Save:
        """Return what gives a value to the source in place of *save*, which it never calls."""
        del save

        async def wrapped(key: str, value: Any, life: Life) -> None:
            del life
            cache = self._cache
            assert cache is not None, "a route saves only while its cache is open"
            async with self._turns.of(key):
                await through(
                    lambda: called(self._writer, key, value),
                    lambda: _drop(cache, key),
                    lambda: _drop(cache, key),
                )

        return wrapped


@hookimpl
def tiercache_patterns() -> Iterable[type[PatternConfig]]:
    """Return the pattern of this module."""
    return (CacheAsideConfig,)
