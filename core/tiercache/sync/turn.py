"""How a thread waits for the loop, and runs its own loader when the flight asks for it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import inspect
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tiercache.errors import CacheClosed, LoadError

if TYPE_CHECKING:
    from tiercache.engine.loaded import LoadContext

T = TypeVar("T")

LOOK: Final = 1.0
"""Seconds after which a thread that waits looks whether the loop is still there to answer it."""


def outcome(future: concurrent.futures.Future[T], loop: asyncio.AbstractEventLoop) -> T:
    """Return what *future* brings from *loop*.

    Who is interrupted leaves: others who wait for the same are not harmed. Raises CacheClosed where the loop
    ends first.
    """
    try:
        while True:
            try:
                return future.result(LOOK)
            except TimeoutError:
                # Of the wait, unless the loop's answer is one.
                if future.done():
                    raise
                check(loop)
    except concurrent.futures.CancelledError as error:
        raise closed() from error
    finally:
        future.cancel()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that this thread is running right now."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def check(loop: asyncio.AbstractEventLoop) -> None:
    """Raise CacheClosed where *loop* does not run any more."""
    if not loop.is_running():
        raise closed()


def closed() -> CacheClosed:
    """Return the error for a cache that is closed while somebody waits."""
    return CacheClosed("the cache was closed, or its event loop ended, while this call waited")


class _Left(Exception):
    """The caller whose turn it was is gone."""


class Turn:
    """A sync loader on its way through a flight: `load` is what the flight calls, on the loop.

    It asks the thread that waits in `take` to run the loader. That thread has what the loader was written
    for, such as its database connection, and is idle anyhow; the loop must not be held up, and a pool would
    bound how many may load.
    """

    __slots__ = ("_answer", "_leaving", "_left", "_loader", "_loop", "_wanted")

    def __init__(self, loader: Callable[..., Any], loop: asyncio.AbstractEventLoop) -> None:
        self._loader = loader
        self._loop = loop
        # Calls of the loader, each in its context; None: the future has come.
        self._wanted: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._leaving = threading.Lock()
        self._left = False
        self._answer: asyncio.Future[tuple[Any, Exception | None]] | None = None

    async def load(self, *given: Any) -> Any:
        """Return what the loader brings, called with what is *given*."""
        with self._leaving:
            left = self._left
            if not left:
                self._answer = self._loop.create_future()
                self._wanted.put(partial(contextvars.copy_context().run, self._loader, *given))
        try:
            value, error = await (self._elsewhere(*given) if left or self._answer is None else self._answer)
        except _Left:
            # Interrupted in the middle. Where nobody else waits, this task has been cancelled by now.
            value, error = await self._elsewhere(*given)
        if error is not None:
            if isinstance(error, StopIteration):
                raise LoadError("the loader raised StopIteration") from error
            raise error
        return await value if inspect.isawaitable(value) else value

    async def load_in(self, context: LoadContext) -> Any:
        """The same for a loader that wants to know what it loads."""
        return await self.load(context)

    def take(self, future: concurrent.futures.Future[T]) -> T:
        """Wait for *future*, and run the loader in this thread whenever it is asked for."""
        future.add_done_callback(lambda _: self._wanted.put(None))
        try:
            while (call := self._next()) is not None:
                self._post(self._settle, _tried(call))
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise closed() from error
        finally:
            # In this order: where nobody else waits, the load ends before it misses its caller.
            future.cancel()
            self._leave()

    def _next(self) -> Callable[[], Any] | None:
        while True:
            try:
                return self._wanted.get(timeout=LOOK)
            except Empty:
                check(self._loop)

    def _leave(self) -> None:
        with self._leaving:
            self._left = True
            waited_for = self._answer is not None and not self._answer.done()
        if waited_for:
            self._post(self._abandon)

    def _post(self, act: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(act, *arguments)
        except RuntimeError as error:
            raise closed() from error

    def _settle(self, answer: tuple[Any, Exception | None]) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _abandon(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(_Left())

    async def _elsewhere(self, *given: Any) -> tuple[Any, Exception | None]:
        """Run the loader in a thread of its own: a daemon, so that the interpreter need not wait for it."""
        done: asyncio.Future[tuple[Any, Exception | None]] = self._loop.create_future()
        call = partial(contextvars.copy_context().run, self._loader, *given)

        def settle(answer: tuple[Any, Exception | None]) -> None:
            if not done.done():
                done.set_result(answer)

        def work() -> None:
            try:
                self._post(settle, _tried(call))
            except CacheClosed:
                # Nobody is left to take it.
                return

        threading.Thread(target=work, name="tiercache-loader", daemon=True).start()
        return await done


def _tried(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return call(), None
    except Exception as error:  # noqa: BLE001 - the loader is the application's; its error goes to the callers
        return None, error
