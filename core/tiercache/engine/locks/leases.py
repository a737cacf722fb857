"""The leases of one tier: asked for in batches, and prolonged for as long as they are wanted."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from tiercache.clock import Clock
from tiercache.contracts import Claim, Locks
from tiercache.engine.guard import NUMBERS, Guard, answers
from tiercache.engine.tasks import begin

if TYPE_CHECKING:
    from collections.abc import Callable

MOST: Final = 256
"""Claims that one call may carry."""
SHARE: Final = 1 / 3
"""Of its life, after which a lease is prolonged: two answers may be lost before it is over."""

_Kind = Literal["acquire", "prolong", "release"]


class _Op(NamedTuple):
    kind: _Kind
    claim: Claim
    done: asyncio.Future[Any]


class Lease:
    """A name that this process holds, and goes on holding until it is given back, or lost.

    *most* bounds for how many seconds it is prolonged; then it is given back.
    """

    __slots__ = ("_clock", "_timer", "_until", "claim", "ended", "fence", "most", "refused")

    def __init__(self, claim: Claim, fence: int, until: float, clock: Clock, most: float) -> None:
        self.claim = claim
        self.fence = fence
        """Above that of everybody who held the name before."""
        self.ended = False
        """Whether it was given back, is known to be lost, or the tier was closed."""
        self.refused = False
        """Whether the tier said that the token does not hold it any more."""
        self.most = most
        self._clock = clock
        self._until = until
        self._timer: asyncio.TimerHandle | None = None

    @property
    def held(self) -> bool:
        """Whether nobody else can have it. Counted from when the tier was last asked, not from its answer."""
        return not self.ended and self._clock.monotonic() < self._until

    def spent(self) -> None:
        """Take note that it is over."""
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def prolonged(self, until: float) -> None:
        """Take note that it lives until *until*, in seconds of `Clock.monotonic`."""
        self._until = max(self._until, until)

    def wakes(self, timer: asyncio.TimerHandle) -> None:
        """Take note of what will prolong it."""
        self._timer = timer


class Leases:
    """Asks one tier for leases. What is asked for while a call is in flight goes out together in the next.

    Nobody who waits for a name has a call under way meanwhile, so however many wait, the tier's connections
    are free for those who hold it.
    """

    __slots__ = ("_batch", "_clock", "_guard", "_live", "_queue", "_task", "tier")

    def __init__(self, tier: Locks, clock: Clock, guard: Guard | None = None) -> None:
        self.tier = tier
        self._clock = clock
        self._guard = guard
        self._queue: deque[_Op] = deque()
        self._batch: list[_Op] = []
        self._live: set[Lease] = set()
        self._task: asyncio.Task[None] | None = None

    def ask(
        self, name: str, life: float, *, floor: int = 0, most: float = math.inf
    ) -> asyncio.Future[Lease | Literal[False] | None]:
        """Ask once for *name*. The future brings the lease, False where another holds it, None where the
        tier failed. Who stops waiting for it calls `drop`.
        """
        claim = Claim(name, secrets.token_bytes(16), life, floor)
        done = self._submit("acquire", claim)
        brought: asyncio.Future[Lease | Literal[False] | None] = done.get_loop().create_future()

        def landed(_: asyncio.Future[Any]) -> None:
            answer = None if done.cancelled() else done.result()
            if brought.done():
                # Whoever asked has left; a lease that nobody knows of would stand until its life is over.
                if answer is None or answer[0]:
                    self._submit("release", claim)
            elif answer is None:
                # It may have been lent all the same.
                self._submit("release", claim)
                brought.set_result(None)
            elif not answer[0]:
                brought.set_result(False)
            else:
                fence, sent = answer
                lease = Lease(claim, fence, sent + life, self._clock, most)
                self._live.add(lease)
                self._look_later(lease, life * SHARE)
                brought.set_result(lease)

        done.add_done_callback(landed)
        return brought

    def drop(self, brought: asyncio.Future[Lease | Literal[False] | None]) -> None:
        """Give back what `ask` brought, or is about to bring."""
        if brought.done() and not brought.cancelled():
            if lease := brought.result():
                self.give_back(lease)
        else:
            brought.cancel()

    def give_back(self, lease: Lease) -> asyncio.Future[bool | None]:
        """End *lease*. The future brings whether it was still held, None where the tier failed."""
        self.forget(lease)
        done = self._submit("release", lease.claim)
        brought: asyncio.Future[bool | None] = done.get_loop().create_future()

        def landed(_: asyncio.Future[Any]) -> None:
            answer = None if done.cancelled() else done.result()
            if not brought.done():
                brought.set_result(None if answer is None else bool(answer[0]))

        done.add_done_callback(landed)
        return brought

    def forget(self, lease: Lease) -> None:
        """Take note that *lease* is over."""
        lease.spent()
        self._live.discard(lease)

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        while (task := self._task) is not None:
            await asyncio.wait([task])

    def end(self) -> None:
        """Give up what is in flight, and prolong nothing any more."""
        for lease in list(self._live):
            self.forget(lease)
        task = self._task
        self._give_up()
        if task is not None:
            task.cancel()

    def _submit(self, kind: _Kind, claim: Claim) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        if self._guard is not None and self._guard.barred():
            done.set_result(None)
            return done
        self._queue.append(_Op(kind, claim, done))
        if self._task is None:
            self._task = begin(self._run(), "tiercache-leases", loop=loop)
        return done

    async def _run(self) -> None:
        me = asyncio.current_task()
        try:
            while self._queue:
                batch = self._batch = self._take()
                sent = self._clock.monotonic()
                found = await self._call(batch[0].kind, [op.claim for op in batch])
                if self._task is not me:
                    return
                self._batch = []
                for index, op in enumerate(batch):
                    if not op.done.done():
                        op.done.set_result(None if found is None else (found[index], sent))
        finally:
            if self._task is me:
                self._give_up()

    async def _call(self, kind: _Kind, claims: Sequence[Claim]) -> list[Any] | None:
        act = getattr(self.tier, kind)
        if self._guard is None:
            return list(await act(claims))
        return await self._guard.call(answers, act, claims, NUMBERS, given_up=self._give_up)

    def _take(self) -> list[_Op]:
        batch = [self._queue.popleft()]
        while self._queue and self._queue[0].kind == batch[0].kind and len(batch) < MOST:
            batch.append(self._queue.popleft())
        return batch

    def _give_up(self) -> None:
        """Leave the task to itself; whoever waits has no answer."""
        self._task = None
        ops = (*self._batch, *self._queue)
        self._batch = []
        self._queue.clear()
        for op in ops:
            if not op.done.done():
                op.done.set_result(None)

    def _look_later(self, lease: Lease, seconds: float) -> None:
        seconds = min(seconds, lease.most)
        lease.most -= seconds
        lease.wakes(asyncio.get_running_loop().call_later(seconds, self._prolong, lease))

    def _prolong(self, lease: Lease) -> None:
        if lease.ended:
            return
        if lease.most <= 0:
            self.give_back(lease)
            return
        self._submit("prolong", lease.claim).add_done_callback(self._prolonged(lease))

    def _prolonged(self, lease: Lease) -> Callable[[asyncio.Future[Any]], None]:
        def landed(done: asyncio.Future[Any]) -> None:
            answer = None if done.cancelled() else done.result()
            if lease.ended:
                return
            life = lease.claim.life
            if answer is None:
                self._look_later(lease, life * SHARE / 2)
            elif not answer[0]:
                lease.refused = True
                self.forget(lease)
            else:
                lease.prolonged(answer[1] + life)
                self._look_later(lease, life * SHARE)

        return landed
