"""An event loop without a clock, a selector or threads, whose order a random source decides.

What asyncio says of order is that `call_soon` is first in, first out. Programs meet other orders all the
same, as answers arrive when they like; so what is ready is drawn by chance. One order is kept: the callbacks
of one future run in the order in which they were added. Time is virtual: each step takes a few microseconds,
so that no two stamps of different processes need be equal, and where nothing is ready it jumps to the next
timer.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from typing import Any, Literal

Order = Literal["queue", "round", "any"]
"""Who is next: the first; any of those that were ready when the round began; any that is ready."""

MICROS = 1_000_000


class Stuck(Exception):
    """Somebody waits for what nobody will bring."""


class Future(asyncio.Future):
    """A future whose place in a set is the same in every run."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class Task(asyncio.Task):
    """A task likewise."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class Loop(asyncio.BaseEventLoop):
    """Runs what is ready in an order that *chance* draws. `lost` collects what its handler was told."""

    def __init__(self, chance: random.Random, order: Order = "any") -> None:
        super().__init__()
        self.chance = chance
        self.order = order
        self.steps = 0
        self.lost: list[dict[str, Any]] = []
        self._ticks = 0
        self._numbers = 0
        self.set_task_factory(self._task)
        self.set_exception_handler(lambda _, context: self.lost.append(context))

    def time(self) -> float:
        return self._ticks / MICROS

    @property
    def ticks(self) -> int:
        """The time in microseconds."""
        return self._ticks

    def create_future(self) -> Future:
        future = Future(loop=self)
        self._numbers = future.number = self._numbers + 1
        return future

    def _task(self, loop: Any, coroutine: Any, **options: Any) -> Task:
        task = Task(coroutine, loop=loop, **options)
        self._numbers = task.number = self._numbers + 1
        return task

    def _write_to_self(self) -> None:
        """Nothing sleeps that would have to be woken."""

    def _process_events(self, events: Any) -> None:
        """Nothing comes from outside."""

    def _run_once(self) -> None:
        self._expire()
        if not self._ready and not self._stopping:
            if not self._scheduled:
                raise Stuck("nothing is ready, and no timer runs")
            self._ticks = max(self._ticks, round(self._scheduled[0]._when * MICROS))
            self._expire()
        count = len(self._ready) if self.order != "any" else min(len(self._ready), 1)
        for left in range(count, 0, -1):
            handle = self._next(left if self.order == "round" else len(self._ready))
            if not handle._cancelled:
                self.steps += 1
                self._ticks += self.chance.randrange(1, 40)
                handle._run()
        handle = None  # What it refers to must not live on for the sake of a local name.

    def _expire(self) -> None:
        """Make ready what the time has come for."""
        timers = self._scheduled
        while timers and (timers[0]._cancelled or round(timers[0]._when * MICROS) <= self._ticks):
            timer = heapq.heappop(timers)
            timer._scheduled = False
            if timer._cancelled:
                self._timer_cancelled_count = max(self._timer_cancelled_count - 1, 0)
            else:
                self._ready.append(timer)

    def _next(self, among: int) -> asyncio.Handle:
        """Take one of the first *among* that are ready."""
        ready: Any = self._ready
        if self.order == "queue" or among == 1:
            return ready.popleft()
        at = self.chance.randrange(among)
        arguments = ready[at]._args
        if arguments and isinstance(arguments[0], asyncio.Future):
            # Woken by a future: those that it called before go first.
            at = next(i for i in range(at + 1) if ready[i]._args and ready[i]._args[0] is arguments[0])
        handle = ready[at]
        del ready[at]
        return handle
