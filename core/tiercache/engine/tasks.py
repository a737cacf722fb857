"""How the engine starts its own tasks, and wakes others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context
from typing import Any, Final, TypeVar

T = TypeVar("T")

Woken = list[tuple[Callable[..., object], Callable[..., object], asyncio.Future[Any]]]
"""Who waited for futures that have their results, and is yet to hear of it: see `wake`."""

_TOLD: Final = hasattr(asyncio.Future, "_callbacks")
"""Whether futures tell who waits for them, as those written in C do."""


def begin(
    running: Coroutine[Any, Any, T],
    name: str,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    context: Context | None = None,
) -> asyncio.Task[T]:
    """Return *running* as a task of the running loop, or of *loop* where the caller knows it.

    It begins in the loop's next turn, never here, whatever task factory the application has set: an eager one
    would run it before the caller holds the task, and what came in the same moment would not go together.
    """
    return asyncio.Task(running, loop=loop or asyncio.get_running_loop(), name=name, context=context)


def settle(waiters: Iterable[asyncio.Future[T]], result: T, woken: Woken) -> None:
    """Give those of *waiters* that still wait their result; whom that concerns is put into *woken*.

    A future tells each by a callback in the loop's next turn, which asyncio makes in Python: 0.5 µs, half of
    what it takes to wake a task. Where many wake together one does for all, and often none is needed.
    """
    for waiter in waiters:
        if waiter.done():
            continue
        if _TOLD:
            for told, context in waiter._callbacks or ():  # noqa: SLF001
                waiter.remove_done_callback(told)
                woken.append((context.run, told, waiter))
        waiter.set_result(result)


def wake(woken: Woken) -> None:
    """Let go on all that `settle` has put into *woken*: at once, or in the loop's next turn where this is
    called within a task, as a task can't take its step within that of another one. To be called last: what
    they do next may be anything.
    """
    if not woken:
        return
    loop = woken[0][2].get_loop()
    if asyncio.current_task(loop) is None:
        _go_on(woken)
    else:
        loop.call_soon(_go_on, woken)


def _go_on(woken: Woken) -> None:
    going = iter(woken)
    try:
        for run, told, waiter in going:
            run(told, waiter)
    finally:
        # Somebody may leave the program, which must not keep the others from what is theirs.
        if rest := list(going):
            rest[0][2].get_loop().call_soon(_go_on, rest)
