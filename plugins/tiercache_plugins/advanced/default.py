"""The default cache: what decorators at module level use."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import Final

from tiercache import Cache, SyncCache

_Maker = Callable[[], Cache]
_Found = tuple[weakref.ref[asyncio.AbstractEventLoop] | None, Cache | None]


class Default:
    """Finds the cache of a call: one an event loop, and one for threads without any.

    The first cache that is offered on a loop is the default there. On a loop that has none, one is opened as
    the first of the process was, or from the nearest tiercache.toml.
    """

    def __init__(self) -> None:
        self._caches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Cache] = (
            weakref.WeakKeyDictionary()
        )
        self._opening: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            weakref.WeakKeyDictionary()
        )
        # What `near` found last: a weak dictionary takes longer than all the rest of a hit.
        self._last: _Found = None, None
        self._maker: _Maker | None = None
        self._made_by: Cache | None = None
        self._own: SyncCache | None = None
        self._changing = threading.Lock()

    def offer(self, cache: Cache, maker: _Maker | None = None) -> None:
        """Take *cache*, open on the running loop, as the default there unless there is one.

        *maker* makes others like it, for other loops.
        """
        loop = asyncio.get_running_loop()
        with self._changing:
            if self._at(loop) is None:
                self._caches[loop] = cache
                self._last = None, None
            if self._made_by is None and maker is not None:
                self._maker, self._made_by = maker, cache

    def withdraw(self, cache: Cache) -> None:
        """Forget *cache*, which is about to be closed."""
        with self._changing:
            for loop in [loop for loop, known in self._caches.items() if known is cache]:
                del self._caches[loop]
            self._last = None, None
            if self._made_by is cache:
                self._maker = self._made_by = None

    def near(self) -> Cache | None:
        """Return the default of the running loop; None where there is no loop, or none yet."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return None
        known, cache = self._last
        if known is None or known() is not loop:
            cache = self._caches.get(loop)
            self._last = weakref.ref(loop), cache
        return cache if cache is not None and cache.is_open else None

    async def cache(self) -> Cache:
        """Return the default of the running loop, opened where there is none. Raises ConfigError where no
        configuration is found.
        """
        found = self.near()
        if found is not None:
            return found
        loop = asyncio.get_running_loop()
        with self._changing:
            lock = self._opening.setdefault(loop, asyncio.Lock())
        async with lock:
            found = self.near()
            if found is None:
                found = await (self._maker or Cache.open)().start()
                with self._changing:
                    self._caches[loop] = found
                    self._last = None, None
        return found

    def face(self) -> SyncCache:
        """Return the default for code that can't wait: that of the running loop, else that of a loop which
        runs in another thread, else one with a loop of its own, from the nearest tiercache.toml.
        """
        found = self.near()
        if found is not None:
            return found.sync
        with self._changing:
            for loop, cache in self._caches.items():
                if cache.is_open and loop.is_running():
                    return cache.sync
            if self._own is None:
                self._own = Cache.open_sync()
            return self._own

    async def close(self) -> None:
        """Close what was opened here or offered for the running loop, and what threads share."""
        with self._changing:
            cache = self._caches.pop(asyncio.get_running_loop(), None)
            self._last = None, None
            own, self._own = self._own, None
        if cache is not None:
            await cache.close()
        if own is not None:
            await asyncio.to_thread(own.close)

    def _at(self, loop: asyncio.AbstractEventLoop) -> Cache | None:
        cache = self._caches.get(loop)
        return cache if cache is not None and cache.is_open else None


DEFAULT: Final = Default()
"""The one piece of state of the process: what decorators at module level share."""


def use_cache(cache: Cache) -> None:
    """Make *cache*, which is open on the running loop, the default there, unless there is one already."""
    DEFAULT.offer(cache)


async def close_default_cache() -> None:
    """Close the default cache of the running loop, and the one that threads without a loop share.

    For what decorators have opened by themselves; the next call of a decorated function opens it anew.
    """
    await DEFAULT.close()
