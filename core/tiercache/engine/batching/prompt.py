"""The reads of a far tier that answers without a coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from tiercache.engine.batching.reads import Reads, both
from tiercache.engine.guard import FRAMES, checked
from tiercache.engine.tasks import wake
from tiercache.errors import TierError

if TYPE_CHECKING:
    from tiercache.clock import Clock
    from tiercache.contracts import Prompt
    from tiercache.engine.batching.writes import Writes
    from tiercache.engine.guard import Guard
    from tiercache.engine.recovery import Recovery


class PromptReads(Reads):
    """Reads without a task for as long as all is well; where it is not, and where somebody follows each
    call, they go the way of all others.

    What comes in one turn of the loop still goes out together, unless the last that went was alone: a caller
    who asks for one thing after the other waits for nobody.
    """

    __slots__ = ("_idle", "_left_at", "_lone", "_over", "_tier")

    def __init__(self, guard: Guard, recovery: Recovery, writes: Writes, clock: Clock, tier: Prompt) -> None:
        super().__init__(guard, recovery, writes, clock)
        self._tier = tier
        self._lone = True
        self._left_at = 0.0
        self._over: Callable[[], None] | None = None
        """Takes back the deadline of what is in flight; None where nothing is that has no task."""
        self._idle: list[asyncio.Future[None]] = []

    def together(self) -> None:
        """Let the first of what comes now wait for the rest."""
        self._lone = False

    def _start(self) -> None:
        if self._recovery.any or not self._guard.plain:
            super()._start()
            return
        self._turn += 1
        self.busy = True
        loop = asyncio.get_running_loop()
        if self._lone:
            self._leave(loop, self._turn)
        else:
            loop.call_soon(self._leave, loop, self._turn)

    def _leave(self, loop: asyncio.AbstractEventLoop, turn: int) -> None:
        """Send what waits."""
        if self._turn != turn:
            return
        # Of its own, so that what answers twice answers nobody's question the second time.
        self._turn = turn = turn + 1
        batch = self._batch = self._take()
        self._left_at = perf_counter()
        self._over = self._guard.began(loop, partial(self._overdue, turn))
        try:
            begun = self._tier.read_soon(list(batch), partial(self._answered, loop, turn, len(batch)))
        except Exception:  # noqa: BLE001 - a plugin may raise anything; `read` says what it was
            begun = False
        if not begun and self._turn == turn:
            self._settle()
            self._with_task()

    def _answered(
        self,
        loop: asyncio.AbstractEventLoop,
        turn: int,
        count: int,
        answered: Sequence[bytes | None] | None,
    ) -> None:
        if self._turn != turn:
            return
        self._settle()
        if answered is None:
            self._with_task()
            return
        try:
            frames = checked(answered, count, FRAMES)
        except TierError:
            # It is told of what it answers the other way, where failures are counted.
            self._with_task()
            return
        self._guard.ended(perf_counter() - self._left_at)
        self._lone = count == 1
        try:
            # Within this turn: what they ask for next leaves together.
            wake(self._land(frames))
        finally:
            self._go_on(loop, turn)

    def _go_on(self, loop: asyncio.AbstractEventLoop, turn: int) -> None:
        if self._turn != turn:
            return
        if not self._waiting:
            self.busy = False
            self._rested()
        elif self._recovery.any or not self._guard.plain:
            super()._start()
        else:
            self._leave(loop, turn)

    def _overdue(self, turn: int) -> None:
        if self._turn != turn:
            return
        self._over = None
        self._guard.ended(perf_counter() - self._left_at, overdue=True)
        self._give_up()

    def _with_task(self) -> None:
        """Ask again for what was asked for, with all that a failure comes to."""
        again, self._batch = self._batch, {}
        for address, landing in self._waiting.items():
            again[address] = both(again[address], landing) if address in again else landing
        self._waiting = again
        super()._start()

    def _settle(self) -> None:
        if self._over is not None:
            self._over()
            self._over = None

    def _give_up(self) -> None:
        self._settle()
        super()._give_up()
        self._rested()

    def _rested(self) -> None:
        idle, self._idle = self._idle, []
        for waiter in idle:
            if not waiter.done():
                waiter.set_result(None)

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        while self.busy:
            if self._task is not None:
                await super().idle()
                continue
            waiter = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter
