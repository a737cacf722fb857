"""Loads of many keys by one call of a loader."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tiercache.engine.calling import load
from tiercache.engine.tasks import begin
from tiercache.engine.waits import Place
from tiercache.entry import MISSING


class Bulk:
    """One call of a loader of many keys, shared by the loads of each.

    It ends early only when every load that waits for it was cancelled.
    """

    __slots__ = ("_keys", "_loader", "_place", "_task", "_waiting")

    def __init__(self, loader: Callable[[list[str]], Any], keys: list[str]) -> None:
        self._loader = loader
        self._keys = keys
        # Of its own: no other call is the same one.
        self._place = Place(route=self)
        self._task: asyncio.Task[Any] | None = None
        self._waiting = 0

    async def one(self, key: str) -> Any:
        """Return what the loader brought for *key*; MISSING where it brought nothing."""
        if self._task is None:
            self._task = begin(self._run(), "tiercache-bulk-load")
            self._task.add_done_callback(_seen)
        self._waiting += 1
        waiter = asyncio.shield(self._task)
        try:
            self._place.awaited(waiter)
            return (await waiter).get(key, MISSING)
        finally:
            self._place.left(waiter)
            self._waiting -= 1
            if not self._waiting and not self._task.done():
                self._task.cancel()

    async def _run(self) -> Any:
        self._place.enter()
        try:
            brought = await load("", lambda: self._loader(self._keys))
        except BaseException as error:
            self._place.end(error)
            raise
        self._place.end()
        return brought


def _seen(task: asyncio.Task[Any]) -> None:
    """Take note of an error that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
