"""One connection and its thread: functions go there, and what they bring comes back to the loop."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from contextvars import Context
from queue import SimpleQueue
from typing import Any, Final, TypeVar

log = logging.getLogger("tiercache.tier")

T = TypeVar("T")

GRACE: Final = 1.0
"""Seconds that a statement under way has to end by itself when the link is closed."""


class Link:
    """A connection in a thread of its own, which takes whole functions.

    A hop to the thread and back takes 20 µs; with one a statement, a batch of twenty would take twenty hops,
    and its transaction be open meanwhile. A function given the bare connection hops once.
    """

    __slots__ = ("_errands", "_over", "identity", "raw")

    def __init__(self, errands: SimpleQueue[_Errand | None], raw: sqlite3.Connection) -> None:
        self._errands = errands
        self._over = False
        # A damaged row may hold text that is not UTF-8, which would fail the whole statement.
        raw.text_factory = bytes
        self.raw = raw
        """The bare connection; `interrupt` alone may be called from other threads."""
        self.identity: tuple[int, int] | None = None
        """The file that is open, whatever has its name by now."""

    @classmethod
    async def to(cls, path: str, patience: float) -> Link:
        """Return a link to the database *path*, waiting *patience* seconds where it is locked."""

        def connect() -> sqlite3.Connection:
            return sqlite3.connect(
                path, isolation_level=None, timeout=patience, cached_statements=64, check_same_thread=False
            )

        errands: SimpleQueue[_Errand | None] = SimpleQueue()
        # A thread that is not a daemon is joined at exit, and a connection that nobody closed would keep it
        # waiting for ever.
        threading.Thread(target=_serve, args=(errands,), name="tiercache-sqlite", daemon=True).start()
        try:
            return cls(errands, await _errand(errands, connect, ()))
        except BaseException:
            errands.put(None)
            raise

    async def run(self, act: Callable[..., T], *arguments: Any) -> T:
        """Return `act(bare connection, *arguments)`, called in the thread. Raises ValueError once closed."""
        if self._over:
            raise ValueError("the connection is closed")
        result: T = await _errand(self._errands, act, (self.raw, *arguments))
        return result

    async def close(self) -> bool:
        """Close the connection; interrupt what is under way, and leave the thread to its fate where that
        does not help. Return whether it went well.
        """
        closing = asyncio.ensure_future(self.run(sqlite3.Connection.close))
        await asyncio.wait([closing], timeout=GRACE)
        if not closing.done():
            self.raw.interrupt()
            await asyncio.wait([closing], timeout=GRACE)
        well = closing.done() and closing.exception() is None
        closing.cancel()
        self._over = True
        self._errands.put(None)
        return well

    def abandon(self) -> None:
        """Forget the thread: it stayed in the parent of a fork.

        The bare connection stays referenced by the link, and must never be closed here: that would act on
        locks and files that are the parent's.
        """
        self._over = True


class _Answer(asyncio.Future[Any]):
    """A future that wakes the task that waits for it without another turn of the loop: 4 µs of a read."""

    __slots__ = ("_waiting",)

    def add_done_callback(self, fn: Callable[[Any], object], *, context: Context | None = None) -> None:
        super().add_done_callback(fn, context=context)
        self._waiting = fn, context

    def arrive(self, result: Any, error: BaseException | None) -> None:
        """Take what the thread brings. Called by the loop, never from within a task."""
        if self.done():
            return
        waiting, context = getattr(self, "_waiting", (None, None))
        if waiting is not None:
            self.remove_done_callback(waiting)
        if error is None:
            self.set_result(result)
        else:
            self.set_exception(error)
        if waiting is not None and context is not None:
            context.run(waiting, self)


_Errand = tuple[_Answer, Callable[..., Any], tuple[Any, ...]]


async def _errand(
    errands: SimpleQueue[_Errand | None], act: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    answer = _Answer(loop=asyncio.get_running_loop())
    errands.put((answer, act, arguments))
    return await answer


def _serve(errands: SimpleQueue[_Errand | None]) -> None:
    while (errand := errands.get()) is not None:
        answer, act, arguments = errand
        result: Any = None
        error: BaseException | None = None
        try:
            result = act(*arguments)
        except BaseException as failure:  # noqa: BLE001 - raised where it is awaited
            error = failure
        try:
            answer.get_loop().call_soon_threadsafe(answer.arrive, result, error)
        except RuntimeError as closed:
            log.debug("nobody is left to hear what the database answers: %s", closed)
        # While the thread waits, nothing is kept alive by it.
        del errand, answer, act, arguments, result, error
