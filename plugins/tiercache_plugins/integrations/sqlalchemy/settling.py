"""Invalidations after commits: waited for where that is possible, and owed where it is not."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Awaitable, Sequence
from typing import Any

from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.util import await_only

from tiercache import Cache, SyncCache

_LOG = logging.getLogger("tiercache.sqlalchemy")


class Settling:
    """Ends results of tables that were changed. What can't be ended now is owed, and tried again.

    As long as anything is owed no query of this process is answered from the cache.
    """

    def __init__(self) -> None:
        self._owed: dict[int, tuple[str, ...]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._under_way: set[asyncio.Task[None]] = set()
        self._invalidations = self._failed = 0

    def counts(self) -> dict[str, int]:
        """Return how many invalidations there were, how many of them failed, and how many are still owed."""
        with self._lock:
            return {
                "invalidations": self._invalidations,
                "failed": self._failed,
                "unsettled": len(self._owed),
            }

    def owe(self, tags: Sequence[str]) -> int:
        """Remember *tags* until they are ended; return the number of the debt."""
        with self._lock:
            number = next(self._numbers)
            self._owed[number] = tuple(tags)
        return number

    def settle(self, face: SyncCache, cache: Cache | None, tags: Sequence[str]) -> None:
        """End *tags* before this returns.

        On the thread of *cache*'s own event loop nobody may wait for it: there it is done soon.
        """
        number = self.owe(tags)
        try:
            face.invalidate(tags=tags)
        except RuntimeError:
            if cache is None or self._soon(cache, number, tags) is None:
                self._fail()
        except Exception:  # noqa: BLE001 - a commit must not fail because of it; it is counted, and owed
            self._fail()
        else:
            self._paid(number)

    def awaited(self, cache: Cache, tags: Sequence[str]) -> None:
        """End *tags* before this returns, in the greenlet of an `AsyncSession`.

        Whoever is cancelled meanwhile leaves; the invalidation goes on.
        """
        task = self._soon(cache, self.owe(tags), tags)
        if task is None:
            self._fail()
            return
        try:
            await_only(asyncio.shield(task))
        except MissingGreenlet:
            # Closed outside of its greenlet: it is owed until the task has done it.
            return

    def owes(self, source: Cache | SyncCache) -> bool:
        """Return whether something is still owed; tries to end it."""
        if not self._owed:
            return False
        with self._lock:
            owed = dict(self._owed)
        tags = tuple(dict.fromkeys(tag for tags in owed.values() for tag in tags))
        try:
            if isinstance(source, Cache):
                self.wait(source.invalidate(tags=tags))
            else:
                source.invalidate(tags=tags)
        except Exception:  # noqa: BLE001 - a read must not fail because of it
            with self._lock:
                self._failed += 1
            return True
        for number in owed:
            self._paid(number)
        return bool(self._owed)

    def wait(self, asked: Awaitable[Any]) -> Any:
        """Return what is *asked*, in the greenlet of an `AsyncSession`."""
        return await_only(asked)

    def _soon(self, cache: Cache, number: int, tags: Sequence[str]) -> asyncio.Task[None] | None:
        """Return the task that ends *tags*, where there is a loop for it."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return None
        task = loop.create_task(self._end(cache, number, tags), name="tiercache-settle")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _end(self, cache: Cache, number: int, tags: Sequence[str]) -> None:
        try:
            await cache.invalidate(tags=tags)
        except Exception:  # noqa: BLE001 - likewise
            self._fail()
        else:
            self._paid(number)

    def _paid(self, number: int) -> None:
        with self._lock:
            self._invalidations += self._owed.pop(number, None) is not None

    def _fail(self) -> None:
        with self._lock:
            self._failed += 1
        _LOG.exception("results of changed tables could not be ended; none is used here until they are")
