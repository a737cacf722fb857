"""One connection and its thread: functions go there, and what they bring comes back to the loop."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
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

    __slots__ = ("_desk", "_over", "identity", "raw")

    def __init__(self, desk: _Desk, raw: sqlite3.Connection) -> None:
        self._desk = desk
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
                path, isolation_level=None, timeout=patience, cached_statements=128, check_same_thread=False
            )

        desk = _Desk()
        # A thread that is not a daemon is joined at exit, and a connection that nobody closed would keep it
        # waiting for ever.
        threading.Thread(target=desk.serve, name="tiercache-sqlite", daemon=True).start()
        try:
            return cls(desk, await desk.ask(connect))
        except BaseException:
            desk.close()
            raise

    async def run(self, act: Callable[..., T], *arguments: Any) -> T:
        """Return `act(bare connection, *arguments)`, called in the thread. Raises ValueError once closed."""
        if self._over:
            raise ValueError("the connection is closed")
        result: T = await self._desk.ask(act, self.raw, *arguments)
        return result

    def send(self, arrive: Arrive, act: Callable[..., Any], *arguments: Any) -> bool:
        """Begin what `run` does, and call *arrive* when it is done; return False where the link is closed."""
        if self._over:
            return False
        self._desk.send(asyncio.get_running_loop(), arrive, act, (self.raw, *arguments))
        return True

    async def close(self) -> bool:
        """Close the connection; interrupt what is under way, and leave the thread to its fate where that
        does not help. Return whether it went well.
        """
        if self._over:
            return True
        closing = asyncio.ensure_future(self.run(sqlite3.Connection.close))
        await asyncio.wait([closing], timeout=GRACE)
        if not closing.done():
            self.raw.interrupt()
            await asyncio.wait([closing], timeout=GRACE)
        well = closing.done() and closing.exception() is None
        closing.cancel()
        self._over = True
        self._desk.close()
        return well

    def abandon(self) -> None:
        """Forget the thread: it stayed in the parent of a fork.

        The bare connection stays referenced by the link, and must never be closed here: that would act on
        locks and files that are the parent's.
        """
        self._over = True
        self._desk.leave()


Arrive = Callable[[Any, BaseException | None], object]
"""Takes what a function returned, or raised. Called by the loop, never from within a task."""

_Errand = tuple[asyncio.AbstractEventLoop, Arrive, Callable[..., Any], tuple[Any, ...]]


class _Desk:
    """What waits for one thread, with a pipe for a bell.

    A thread that waits for a lock of Python's, as in a queue, is woken while the caller still runs Python: on
    one processor the two are switched to and fro, 6 µs for each hop. Whoever writes to a pipe or reads from
    one holds nothing that the other waits for.
    """

    __slots__ = ("_bell", "_errands", "_hears")

    def __init__(self) -> None:
        self._errands: deque[_Errand | None] = deque()
        self._hears, self._bell = os.pipe()
        os.set_blocking(self._bell, False)

    async def ask(self, act: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `act(*arguments)` brings in the thread."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self.send(loop, partial(_arrive, answer), act, arguments)
        return await answer

    def send(
        self, loop: asyncio.AbstractEventLoop, arrive: Arrive, act: Callable[..., Any], arguments: Any
    ) -> None:
        """Call `act(*arguments)` in the thread, and then *arrive* in *loop*."""
        self._put((loop, arrive, act, arguments))

    def _put(self, errand: _Errand | None) -> None:
        self._errands.append(errand)
        # Where the pipe is full the thread has thousands of rings to hear, and then looks at all that waits.
        with suppress(BlockingIOError):
            os.write(self._bell, b"!")

    def serve(self) -> None:
        """Do what waits, until closed: the body of the thread."""
        errands = self._errands
        while os.read(self._hears, 4096):
            while errands:
                if (errand := errands.popleft()) is None:
                    os.close(self._hears)
                    return
                _do(errand)
                # While the thread waits, nothing is kept alive by it.
                del errand

    def close(self) -> None:
        """Let the thread end once it has done what waits."""
        # A thread still at work finds the end without being rung for, and may be gone before the ring.
        with suppress(BrokenPipeError):
            self._put(None)
        os.close(self._bell)

    def leave(self) -> None:
        """Close this process's ends of the pipe: those of the thread are the parent's."""
        os.close(self._bell)
        os.close(self._hears)


def _arrive(answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)


def _do(errand: _Errand) -> None:
    loop, arrive, act, arguments = errand
    result: Any = None
    error: BaseException | None = None
    try:
        result = act(*arguments)
    except BaseException as failure:  # noqa: BLE001 - raised where it is awaited
        error = failure
    try:
        loop.call_soon_threadsafe(arrive, result, error)
    except RuntimeError as closed:
        log.debug("nobody is left to hear what the database answers: %s", closed)
