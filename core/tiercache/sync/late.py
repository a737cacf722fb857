"""Decorators for functions that stand before their cache does: it is found when they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from tiercache.decorators import decorator

if TYPE_CHECKING:
    from tiercache.cache import Cache
    from tiercache.decorators import Decorator
    from tiercache.sync import SyncCache


class Finder(Protocol):
    """Knows which cache a call is to use."""

    def near(self) -> Cache | None:
        """Return the cache of the event loop that runs in this thread, where it is at hand. Called at every
        call of a decorated function: be quick.
        """
        ...

    async def cache(self) -> Cache:
        """Return the cache for a coroutine function, started on the running loop."""
        ...

    def face(self) -> SyncCache:
        """Return the cache for a function, on any thread, open."""
        ...


class LateFace:
    """Stands for the face of a cache that is not known yet."""

    __slots__ = ("_finder",)

    _written_out = "peek"

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    @property
    def _cache(self) -> Cache:
        """What a wrapper may peek into by itself. Raises RuntimeError where it may not."""
        cache = self._finder.near()
        if cache is None or not cache._written_out:  # noqa: SLF001 - its decorators
            raise RuntimeError("no cache to peek into")
        return cache

    async def _arrived(self) -> Cache:
        return await self._finder.cache()

    def _opened(self) -> Cache:
        return self._finder.face()._opened()  # noqa: SLF001 - its decorators

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder.face(), name)


def cached_by(
    finder: Finder,
    *,
    ttl: float | str | timedelta | None = None,
    stale: float | str | timedelta | None = None,
    key: str | Callable[..., str] | None = None,
    tags: Iterable[str] | Callable[..., Iterable[str]] = (),
    route: str | None = None,
    ignore: Sequence[str] = (),
    version: int | str = 1,
) -> Decorator:
    """Return a decorator as `Cache.cached` does, for a cache that *finder* finds at each call.

    For functions at module level, where there is no cache yet, and for those that several event loops call,
    each with a cache of its own. Raises as `Cache.cached` does.
    """
    face: Any = LateFace(finder)
    made: Decorator = decorator(
        face, ttl=ttl, stale=stale, key=key, tags=tags, route=route, ignore=ignore, version=version,
        own_loop=False,
    )  # fmt: skip
    return made
