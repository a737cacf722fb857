"""DatabaseCache: results of queries, which end with the tables that they were read from."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

from tiercache import Decorator, Loaded, cached_by
from tiercache_plugins.integrations.source import Found, cache_of


class DatabaseCache:
    """Results of queries in the cache of *source*, on *route*, under keys that begin with *prefix*.

    *ttl* is how long they are fresh; None: as long as the route says. Where it is not *enabled* nothing is
    stored, and decorated functions ask the database at each call.
    """

    def __init__(
        self,
        source: Any,
        *,
        route: str | None = None,
        prefix: str = "db:",
        ttl: float | str | timedelta | None = None,
        enabled: bool = True,
    ) -> None:
        self._source = source
        self._route = route
        self._prefix = prefix
        self._ttl = ttl
        self._enabled = enabled
        self._functions: list[Any] = []
        self._invalidations = 0

    def query_cache_decorator(
        self,
        ttl: float | str | timedelta | None = None,
        *,
        tables: Iterable[str] = (),
        key: str | Callable[..., str] | None = None,
        ignore: Sequence[str] = (),
        version: int | str = 1,
        stale: float | str | timedelta | None = None,
    ) -> Decorator:
        """Return a decorator for functions, sync or async, that caches what they read from a database.

        *tables* are those that they read, so that `invalidate_tables` drops their results. *ignore* names
        parameters that do not tell results apart, such as the connection or the session. All else is as with
        `tiercache.Cache.cached`, whose key gets the prefix in front of it. The cache is looked for when the
        function is called, so this may stand at module level.

        Don't call decorated functions in a transaction that has written what they read: others would be
        given what it may yet take back. There, use the function's `uncached`.
        """
        if isinstance(tables, str):
            raise TypeError(f"tables must be a collection of str; for one table write ({tables!r},)")
        finder = Found(self._source)
        tags = tuple(self._tag(table).replace("{", "{{").replace("}", "}}") for table in tables)
        naming = cached_by(finder, key=key, ignore=ignore, version=version)
        result_ttl = self._ttl if ttl is None else ttl
        caching = functools.partial(
            cached_by,
            finder,
            ttl=result_ttl,
            stale=stale,
            tags=tags,
            route=self._route,
        )

        def decorate(function: Any) -> Any:
            told: Any = naming(function)
            asked = function if self._enabled else _unstored(function)
            made = caching(key=lambda *args, **kwargs: self._prefix + told.key_for(*args, **kwargs))(asked)
            self._functions.append(made)
            return made

        return decorate

    async def invalidate_tables(self, *tables: str) -> None:
        """Drop all results that were read from one of *tables*, in every process: after the commit."""
        self._invalidations += 1
        await cache_of(self._source).invalidate(tags=[self._tag(table) for table in tables])

    def stats(self) -> dict[str, Any]:
        """Return what happened here, in this process: `queries` counts calls of the functions themselves."""
        infos = [function.cache_info() for function in self._functions]
        return {
            "prefix": self._prefix,
            "functions": len(infos),
            "queries": sum(info.loads for info in infos),
            "errors": sum(info.load_errors for info in infos),
            "invalidations": self._invalidations,
        }

    def _tag(self, table: str) -> str:
        return f"{self._prefix}table:{table}"


def _unstored(function: Any) -> Any:
    """Return *function* so that what it returns is given to its callers and kept nowhere."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def asked(*args: Any, **kwargs: Any) -> Any:
            return Loaded(await function(*args, **kwargs), store=False)

        return asked

    @functools.wraps(function)
    def asked_now(*args: Any, **kwargs: Any) -> Any:
        return Loaded(function(*args, **kwargs), store=False)

    return asked_now
