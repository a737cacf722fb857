"""Loads that are done by whoever came first, in their own thread or task, with their own session.

The load that the cache runs only asks for it and waits: a session belongs to its caller, and a caller who
is cancelled takes no one along. Whoever waited for such a load is told `Left`, and asks again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy.util import await_only

from tiercache import Cache, Loaded, LoadTimeout, SyncCache


class Left(Exception):
    """Whoever was to load could not, or is gone."""


def led(cache: Cache, key: str, load: Callable[[], Loaded], **asked: Any) -> Any:
    """Return the value of *key*; where it has to be loaded, and this caller is the first, by *load*.

    To be called in the greenlet of an `AsyncSession`, on the event loop of *cache*. Raises Left where another
    caller was to load and did not, and whatever *load* raises.
    """
    loop = asyncio.get_running_loop()
    turn = _Turn(loop)
    task = loop.create_task(cache.get_or_set(key, turn.load, **asked))
    brought: Loaded | None = None
    try:
        await_only(asyncio.wait((task, turn.wanted), return_when=asyncio.FIRST_COMPLETED))
        if turn.wanted.done() and not task.done():
            brought = load()
            turn.give(brought)
        return await_only(task)
    except LoadTimeout:
        if brought is None:
            raise
        return brought.value
    finally:
        turn.leave()
        task.cancel()


class _Turn:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.wanted: asyncio.Future[None] = loop.create_future()
        self._answer: asyncio.Future[Loaded] = loop.create_future()
        self._left = False

    async def load(self) -> Loaded:
        """Ask for the load, and wait for what it brings. Raises Left where nobody is there."""
        if self._left or self.wanted.done():
            raise Left
        self.wanted.set_result(None)
        return await self._answer

    def give(self, brought: Loaded) -> None:
        """Tell what was loaded, unless nobody waits for it any more."""
        if not self._answer.done():
            self._answer.set_result(brought)

    def leave(self) -> None:
        """Let nobody wait for this caller any longer."""
        self._left = True
        if not self._answer.done():
            self._answer.set_exception(Left())
            # Nobody may be there to hear it, which is no fault.
            self._answer.exception()


def led_here(face: SyncCache, key: str, load: Callable[[], Loaded], **asked: Any) -> Any:
    """The same for a thread, which waits meanwhile."""
    owner = threading.get_ident()
    brought: list[Loaded] = []
    failed: list[Exception] = []

    def lead() -> Loaded:
        if threading.get_ident() != owner or brought or failed:
            raise Left
        try:
            brought.append(load())
        except Exception as error:
            failed.append(error)
            raise Left from error
        return brought[0]

    try:
        return face.get_or_set(key, lead, **asked)
    except Left:
        if failed:
            raise failed[0] from None
        raise
    except LoadTimeout:
        if not brought:
            raise
        return brought[0].value
