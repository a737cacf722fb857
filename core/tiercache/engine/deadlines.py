"""Every call of a far tier ends: a sweep cancels those that are older than they may be.

One timer for all calls of a tier, set for the oldest; so a busy tier costs a wake-up a deadline, and a call
costs no timer of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from tiercache.errors import TierError

T = TypeVar("T")

GRACE: Final = 0.25
"""Seconds in which a cancelled call must be over, before it is given up."""


class Overdue(TierError, TimeoutError):
    """A far tier did not answer in time."""


class _Call:
    __slots__ = ("given_up", "late", "limit", "stray", "task", "until")

    def __init__(
        self, task: asyncio.Task[Any] | None, limit: float, until: float, given_up: Callable[[], None] | None
    ) -> None:
        self.task = task
        """What is cancelled; None where there is nothing to cancel, and the call is given up at once."""
        self.limit = limit
        self.until = until
        self.given_up = given_up
        self.late = 0
        """How often it was cancelled for being late."""
        self.stray = False


class Deadlines:
    """The calls of one tier that are under way."""

    __slots__ = ("_calls", "_loop", "_timer", "strays")

    def __init__(self) -> None:
        self.strays = 0
        """Calls that were given up, and go on in spite of being cancelled."""
        self._calls: set[_Call] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def within(
        self,
        limit: float,
        act: Callable[..., Awaitable[T]],
        *arguments: Any,
        given_up: Callable[[], None] | None = None,
    ) -> T:
        """Return what `act(*arguments)` brings within *limit* seconds. Raises Overdue.

        Where even cancelling does not end the call, *given_up* is called: nobody may wait for it any more.
        """
        task = asyncio.current_task()
        assert task is not None
        loop = task.get_loop()
        call = self._begin(loop, limit, task, given_up)
        cancelling = task.cancelling()
        try:
            result = await act(*arguments)
        except asyncio.CancelledError:
            if call.late and _forgiven(task, call.late) <= cancelling:
                raise Overdue(f"no answer within {limit:g} s") from None
            raise
        except Exception as error:
            if call.late and _forgiven(task, call.late) <= cancelling:
                # What the tier made of being cancelled.
                raise Overdue(f"no answer within {limit:g} s") from error
            raise
        else:
            if call.late:
                _forgiven(task, call.late)
            return result
        finally:
            self._calls.discard(call)
            self.strays -= call.stray

    def until(
        self, loop: asyncio.AbstractEventLoop, limit: float, given_up: Callable[[], None]
    ) -> Callable[[], None]:
        """Call *given_up* in *limit* seconds, unless what this returns was called before."""
        call = self._begin(loop, limit, None, given_up)
        return lambda: self._calls.discard(call)

    def _begin(
        self,
        loop: asyncio.AbstractEventLoop,
        limit: float,
        task: asyncio.Task[Any] | None,
        given_up: Callable[[], None] | None,
    ) -> _Call:
        call = _Call(task, limit, loop.time() + limit, given_up)
        self._calls.add(call)
        if self._timer is None or self._loop is not loop:
            self._loop = loop
            self._timer = loop.call_at(call.until, self._sweep)
        elif call.until < self._timer.when():
            self._timer.cancel()
            self._timer = loop.call_at(call.until, self._sweep)
        return call

    def end(self) -> None:
        """Stop looking. Calls that somebody waits for are cut short; those of lanes end with their lane."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for call in self._calls:
            if call.task is not None and (call.given_up is None or call.stray):
                call.late += 1
                call.task.cancel()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for call in [call for call in self._calls if call.until <= now]:
            if call not in self._calls:
                # Over, by what was given up before it.
                continue
            if call.task is None:
                self._calls.discard(call)
                if call.given_up is not None:
                    call.given_up()
            elif not call.late:
                call.late = 1
                call.until = now + GRACE
                call.task.cancel()
            elif call.given_up is not None and not call.stray:
                call.stray = True
                call.until = now + call.limit
                self.strays += 1
                call.given_up()
            else:
                # What it does after all may hang likewise.
                call.late += 1
                call.until = now + call.limit
                call.task.cancel()
        self._timer = None
        if self._calls:
            self._timer = loop.call_at(min(call.until for call in self._calls), self._sweep)


def _forgiven(task: asyncio.Task[Any], times: int) -> int:
    """Take back as many requests to cancel *task*; return how many stand, of others."""
    for _ in range(times):
        task.uncancel()
    return task.cancelling()
