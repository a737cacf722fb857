"""A cache with an event loop of its own, in a daemon thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Self

from tiercache.sync import SyncCache

if TYPE_CHECKING:
    from tiercache.cache import Cache


class OwnSyncCache(SyncCache):
    """What `Cache.open_sync` returns: it starts the loop that the cache lives on, and stops it.

    In the child of a fork the first call opens the cache anew, by the same configuration: another loop and
    thread, other connections, an empty near tier.
    """

    __slots__ = ("_inherited", "_make", "_opening", "_stop", "_thread", "_wanted")

    _own_loop = True

    def __init__(self, make: Callable[[], Cache]) -> None:
        self._make = make
        self._opening = threading.Lock()
        self._wanted = True
        self._stop: Callable[[], object] | None = None
        self._thread: threading.Thread | None = None
        # What the parent of a fork still uses. Finalizers would act on its sockets and files.
        self._inherited: list[Any] = []
        super().__init__(make())
        self._open()

    def close(self) -> None:
        """Close the cache and end its thread. Safe to call twice."""
        if self._thread is threading.current_thread():
            raise RuntimeError("the cache can't be closed on the thread of its own event loop")
        with self._opening:
            self._wanted = False
            thread, stop, self._thread, self._stop = self._thread, self._stop, None, None
            if thread is None or stop is None:
                return
            try:
                stop()
            finally:
                thread.join()

    def __enter__(self) -> Self:
        self._loop()
        return self

    def peek(self, key: str, default: Any = None) -> Any:
        """As `Cache.peek`; finds nothing in the child of a fork until another call has opened the cache."""
        if self._stop is None and self._wanted:
            return default
        return super().peek(key, default)

    def _opened(self) -> Cache:
        if self._stop is None and self._wanted:
            with self._opening:
                if self._stop is None and self._wanted:
                    self._cache = self._make()
                    self._open()
        return super()._opened()

    def _open(self) -> None:
        opened: concurrent.futures.Future[Callable[[], object]] = concurrent.futures.Future()
        kind = self._cache._house.plan.loop  # noqa: SLF001 - its other face
        factory = None if kind == "asyncio" else importlib.import_module(kind).new_event_loop
        thread = threading.Thread(
            target=_run, args=(factory, _live(self._cache, opened)), name="tiercache-loop", daemon=True
        )
        thread.start()
        try:
            self._stop = opened.result()
        except BaseException:
            # Interrupted, it is not ours any more; let it end when it comes to life.
            opened.add_done_callback(_end)
            raise
        self._thread = thread

    def _forked(self) -> None:
        self._inherited.append((self._cache, self._cache._loop, self._stop, self._thread))  # noqa: SLF001
        super()._forked()
        self._opening = threading.Lock()
        self._stop = self._thread = None


def _end(opened: concurrent.futures.Future[Callable[[], object]]) -> None:
    if opened.exception() is None:
        opened.result()()


def _run(factory: Callable[[], asyncio.AbstractEventLoop] | None, life: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(life)


async def _live(cache: Cache, opened: concurrent.futures.Future[Callable[[], object]]) -> None:
    """Keep *cache* open until what *opened* brings is called."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def stop() -> None:
        loop.call_soon_threadsafe(over.set)

    try:
        await cache.start()
    except BaseException as error:
        opened.set_exception(error)
        if isinstance(error, Exception):
            return
        raise
    opened.set_result(stop)
    async with cache:
        await over.wait()
