"""From a thread to the loop and back: what every call of the synchronous face goes through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from tiercache.entry import MISSING
from tiercache.errors import CacheClosed
from tiercache.sync.turn import Turn, closed, outcome, running_loop

if TYPE_CHECKING:
    from tiercache.cache import Cache

T = TypeVar("T")


class Hop:
    """A cache, and the way to its loop."""

    __slots__ = ("_cache", "_watched")

    def __init__(self, cache: Cache) -> None:
        self._cache: Cache = cache
        # Patterns that watch reads, or load at them, need not be safe for threads: it reads on the loop.
        routes = cache._house.routes.values()  # noqa: SLF001 - its other face
        self._watched = any(route.watchers or route.supply is not None for route in routes)

    @property
    def cache(self) -> Cache:
        """The cache itself. Its methods are for its own event loop; `run` takes coroutines there."""
        return self._cache

    def run(self, act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the coroutine that *act* makes brings, run by the cache's event loop.

        For what is built on a cache, and used by threads. It runs in the context of the caller. A caller who
        is interrupted cancels it. Raises what it raises, CacheClosed, and RuntimeError on the loop's own
        thread.
        """
        return self._ask(act())

    @property
    def _written_out(self) -> str:
        """How a wrapper may read this cache by itself: its "entries", by "peek", or not at all: ""."""
        return self._cache._written_out  # noqa: SLF001 - its other face

    def _near(self, key: str, route: str | None, as_type: Any, *, waits: bool = True) -> Any:
        """Return the near value, as a read; MISSING where there is none that fits, or where who *waits*
        should ask the loop.
        """
        cache = self._cache
        if not cache.is_open or (self._watched and waits and running_loop() is None):
            return MISSING
        if route is None:
            value = cache.peek(key, MISSING)
        else:
            value = cache._resident(key, cache._house.way(key, route))  # noqa: SLF001 - its other face
        if value is MISSING or as_type is None:
            return value
        return cache._shapes.shape(value, as_type)  # noqa: SLF001 - likewise

    def _beyond(self, key: str, default: Any, route: str | None, as_type: Any) -> Any:
        """Return what `get` does where it is not a plain near hit."""
        if route is None and as_type is None and not self._watched:
            try:
                value = self._cache.peek(key, MISSING)
            except CacheClosed:
                value = MISSING
        else:
            value = self._near(key, route, as_type)
        if value is not MISSING:
            return value
        return self._ask(self._ready().get(key, default, route=route, as_type=as_type))

    def _due(self, key: str, route: str | None) -> bool:
        """Return whether the near entry of *key*, which is fresh, has come to the age for a refresh."""
        way = self._cache._house.way(key, route)  # noqa: SLF001 - likewise
        if way.rules.refresh_ahead is None or way.near is None:
            return False
        entry = way.near.get(key)
        return entry is not None and way.clock.monotonic() >= entry.fresh_until

    def _opened(self) -> Cache:
        """Return the cache. Raises CacheClosed where it is not open."""
        if not self._cache.is_open:
            raise CacheClosed(
                "the cache is not open in this process: open one with `Cache.open_sync`, or start it on its "
                "event loop before threads use it"
            )
        return self._cache

    async def _arrived(self) -> Cache:
        """Return the cache, for what can wait until there is one. Raises CacheClosed."""
        return self._opened()

    def _ready(self) -> Cache:
        """Return the cache where this thread may wait for its loop. Raises CacheClosed, RuntimeError."""
        self._loop()
        return self._cache

    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = self._opened()._loop  # noqa: SLF001 - likewise
        if loop is None:
            raise closed()
        if loop is running_loop():
            raise RuntimeError(
                "this call would block the event loop that has to answer it; on this thread await the "
                "cache's own methods, or move the call to another thread"
            )
        if not loop.is_running():
            raise RuntimeError(
                "the cache's event loop is not running, so nothing would ever answer; `Cache.open_sync` "
                "opens a cache with a loop of its own"
            )
        return loop

    def _ask(self, asked: Coroutine[Any, Any, T], turn: Turn | None = None) -> T:
        """Let the loop do what is *asked*, and wait; *turn* is what this thread does meanwhile."""
        try:
            loop = self._loop()
            future = asyncio.run_coroutine_threadsafe(asked, loop)
        except RuntimeError as error:
            asked.close()
            if isinstance(error, CacheClosed) or self._cache.is_open:
                raise
            raise closed() from error
        return outcome(future, loop) if turn is None else turn.take(future)

    def _forked(self) -> None:
        # In the child. The loop's thread stayed in the parent, and so did all that speaks to far tiers:
        # sockets and files are shared with it. What was near is nobody's any more.
        self._cache._abandon()  # noqa: SLF001 - likewise
