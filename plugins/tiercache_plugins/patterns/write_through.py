"""Write-through: the source first, then the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from tiercache import Cache, CheckContext, Context, Life, Pattern, PatternConfig, Save, hookimpl
from tiercache_plugins.patterns.face import Face, HoldsCache
from tiercache_plugins.patterns.source import FunctionRef, called, function_of, problems
from tiercache_plugins.patterns.through import through
from tiercache_plugins.patterns.turns import Turns


class WriteThroughPattern:
    """Stores in the source, then in the cache.

    *cache_system* is an `AdvancedCachingSystem` or a `Cache`; *cache_type* is the route, None: the key's own;
    *writer* is what `set` uses where it is given none. *config* may be left out.

    Writers of one key in this process take turns, so that source and cache end up with the same value. Those
    of other processes don't: give the source a version to compare where two may write at once.
    """

    def __init__(
        self,
        cache_system: Cache | HoldsCache,
        config: object = None,
        *,
        writer: Callable[..., Any] | None = None,
        cache_type: str | None = None,
    ) -> None:
        del config
        self._face = Face(cache_system, cache_type)
        self._writer = writer
        self._turns = Turns()

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of *key*, or *default* where nothing fresh is cached."""
        self._face.seen(key)
        return await self._face.cache.get(key, default, route=self._face.route)

    async def set(
        self,
        key: str,
        value: Any,
        writer: Callable[..., Any] | None = None,
        *,
        ttl: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
    ) -> None:
        """Store *value* by `writer(key, value)`, then in the cache. A writer that is not async runs in a
        thread.

        Where the source fails its error is raised, and the cache stays as it was. Where the cache can't take
        the value (Unserializable), or the caller is cancelled in between, the key is dropped from it, so that
        the next reader finds what the source has. Raises TypeError without a writer.
        """
        write = writer or self._writer
        if write is None:
            raise TypeError("nothing says how to write to the source: give set() or the pattern a writer")
        cache = self._face.cache
        async with self._turns.of(key):
            await through(
                lambda: called(write, key, value),
                lambda: cache.set(key, value, route=self._face.route, ttl=ttl, tags=tags),
                lambda: _drop(cache, key),
            )

    async def delete(self, key: str, remover: Callable[..., Any]) -> None:
        """Drop *key* from the source by `remover(key)`, then from the cache; errors are as with `set`."""
        cache = self._face.cache
        async with self._turns.of(key):
            await through(lambda: called(remover, key), lambda: _drop(cache, key), lambda: _drop(cache, key))


async def _drop(cache: Cache, key: str) -> None:
    await cache.delete(key)


class WriteThroughConfig(PatternConfig):
    """A store goes to the source first, then to the cache."""

    type: Literal["write_through"] = "write_through"
    writer: FunctionRef = Field(
        description='What changes the source: "package.module:function", called with key and value. Where it '
        "raises, the cache stays as it was."
    )

    def check(self, context: CheckContext) -> Iterable[tuple[str, str]]:
        """Find a function that can't be imported."""
        del context
        return problems(writer=self.writer)

    def build(self, context: Context) -> Pattern:
        """Return the pattern."""
        del context
        return Through(function_of(self.writer))


class Through:
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
        """Return *save* after the source."""

        async def wrapped(key: str, value: Any, life: Life) -> None:
            cache = self._cache
            assert cache is not None, "a route saves only while its cache is open"
            async with self._turns.of(key):
                await through(
                    lambda: called(self._writer, key, value),
                    lambda: save(key, value, life),
                    lambda: _drop(cache, key),
                )

        return wrapped


@hookimpl
def tiercache_patterns() -> Iterable[type[PatternConfig]]:
    """Return the pattern of this module."""
    return (WriteThroughConfig,)
