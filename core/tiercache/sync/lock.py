"""Locks for threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tiercache.engine.locks.lock import Lock

if TYPE_CHECKING:
    from tiercache.sync import SyncCache


class SyncLock:
    """A lock that `SyncCache.lock` made: use it as `with`, or call `acquire` and `release`.

    All is as for `Lock`, with a thread in the place of a task. The cache's loop prolongs it, so the thread
    that holds it may block for as long as it needs.
    """

    __slots__ = ("_face", "_lock", "_route", "_ttl", "_wait", "name")

    def __init__(
        self,
        face: SyncCache,
        name: str,
        ttl: float | str | timedelta,
        wait: float | str | timedelta | None,
        route: str | None,
    ) -> None:
        self.name = name
        """What is locked."""
        self._face = face
        self._ttl = ttl
        self._wait = wait
        self._route = route
        self._lock: Lock | None = None

    @property
    def held(self) -> bool:
        """As `Lock.held`."""
        return self._lock is not None and self._lock.held

    @property
    def lost(self) -> bool:
        """As `Lock.lost`."""
        return self._lock is not None and self._lock.lost

    @property
    def fence(self) -> int:
        """As `Lock.fence`."""
        return 0 if self._lock is None else self._lock.fence

    @property
    def token(self) -> bytes:
        """As `Lock.token`."""
        return b"" if self._lock is None else self._lock.token

    def acquire(self) -> Self:
        """As `Lock.acquire`."""
        face = self._face
        cache = face._ready()  # noqa: SLF001 - part of the face
        thread = threading.current_thread()

        async def acquired() -> None:
            if self._lock is None:
                way = cache._way(self.name, self._route)  # noqa: SLF001 - likewise
                lending = cache._lending  # noqa: SLF001 - likewise
                self._lock = lending.lock(way, self.name, self._ttl, self._wait, lambda: thread)
            await self._lock.acquire()

        held = self.token
        try:
            self._asked(acquired)
        except BaseException:
            # Interrupted in the very moment in which it was granted: nobody would release it.
            if self._lock is not None and self._lock.token != held:
                self._posted(self._lock)
            raise
        return self

    def release(self) -> bool:
        """As `Lock.release`."""
        lock = self._lock
        return False if lock is None else self._asked(lock.release)

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<SyncLock {self.name!r}, {'lost' if self.lost else 'held' if self.held else 'not held'}>"

    def _asked(self, act: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return self._face._ask(act())  # noqa: SLF001 - part of the face

    def _posted(self, lock: Lock) -> None:
        asyncio.run_coroutine_threadsafe(lock.release(), self._face._loop())  # noqa: SLF001 - likewise
