"""Single calls become the far tiers' batch calls.

A tier with nothing in flight gets a call at once; what arrives while one is in flight goes out together in
the next. No timer, so nothing waits that need not, and a busy tier gets large batches by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from tiercache.contracts import Record
from tiercache.engine.guard import FRAMES, NUMBERS, Guard, answers

log = logging.getLogger("tiercache.engine")

MOST_KEYS: Final = 512
"""Keys that one call may carry."""
MOST_BYTES: Final = 4 * 2**20
"""Bytes after which a batch of writes is closed."""


class Landing(Protocol):
    """Somebody who waits for a far read."""

    def land(self, frame: bytes | None, *, failed: bool) -> None:
        """Take the frame, or None: a miss, or a tier that *failed*. Must not raise."""
        ...


class Reads:
    """The reads of one far tier, one batch in flight at a time."""

    __slots__ = ("_guard", "_task", "_waiting")

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._waiting: dict[str, list[Landing]] = {}
        self._task: asyncio.Task[None] | None = None

    def submit(self, address: str, landing: Landing) -> None:
        """Read *address* and hand the frame to *landing*."""
        waiting = self._waiting.get(address)
        if waiting is not None:
            waiting.append(landing)
            return
        self._waiting[address] = [landing]
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="tiercache-reads")

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        while (task := self._task) is not None:
            await asyncio.wait([task])

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = self._take()
                keys = list(batch)
                frames = await self._guard.call(answers, self._guard.tier.read, keys, FRAMES)
                for index, landings in enumerate(batch.values()):
                    for landing in landings:
                        landing.land(None if frames is None else frames[index], failed=frames is None)
        finally:
            self._task = None

    def _take(self) -> dict[str, list[Landing]]:
        if len(self._waiting) <= MOST_KEYS:
            batch, self._waiting = self._waiting, {}
            return batch
        return {key: self._waiting.pop(key) for key in list(self._waiting)[:MOST_KEYS]}


class _Act(NamedTuple):
    act: Callable[[], Awaitable[Any]]
    passing: tuple[type[Exception], ...]


class _Op(NamedTuple):
    kind: str
    argument: Any
    done: asyncio.Future[Any]


class Writes:
    """The writes, deletes and other changes of one far tier, in the order in which they were asked for.

    Order is the point: a delete that overtook the write before it would leave the value standing.
    """

    __slots__ = ("_guard", "_queue", "_task")

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._queue: deque[_Op] = deque()
        self._task: asyncio.Task[None] | None = None

    def write(self, record: Record) -> asyncio.Future[int | None]:
        """Store *record*; the future brings its stamp, 0 where kept out, None where the tier failed."""
        return self._submit("write", record)

    def delete(self, address: str) -> asyncio.Future[bool | None]:
        """Drop *address*; the future brings whether it was there, None where the tier failed."""
        return self._submit("delete", address)

    def call(self, act: Callable[[], Awaitable[Any]]) -> asyncio.Future[Any]:
        """Do *act* in its turn; the future brings what it returns, None where the tier failed."""
        return self._submit("call", _Act(act, ()))

    def count(self, act: Callable[[], Awaitable[Any]]) -> asyncio.Future[Any]:
        """As `call`, but a TypeError or OverflowError is an answer, and is raised by the future."""
        return self._submit("call", _Act(act, (TypeError, OverflowError)))

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        while (task := self._task) is not None:
            await asyncio.wait([task])

    def _submit(self, kind: str, argument: Any) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._queue.append(_Op(kind, argument, done))
        if self._task is None:
            self._task = loop.create_task(self._run(), name="tiercache-writes")
        return done

    async def _run(self) -> None:
        batch: list[_Op] = []
        try:
            while self._queue:
                batch = self._take()
                kind = batch[0].kind
                if kind == "call":
                    await self._call(batch[0])
                    continue
                act: Callable[..., Awaitable[Sequence[Any]]] = (
                    self._guard.tier.write if kind == "write" else self._guard.tier.delete
                )
                results = await self._guard.call(answers, act, [op.argument for op in batch], NUMBERS)
                if results is not None:
                    self._count(kind, results)
                for index, op in enumerate(batch):
                    if not op.done.done():
                        op.done.set_result(None if results is None else results[index])
        finally:
            self._task = None
            for op in (*batch, *self._queue):
                op.done.cancel()
            self._queue.clear()

    async def _call(self, op: _Op) -> None:
        act, passing = op.argument
        try:
            result = await self._guard.call(act, passing=passing)
        except passing as error:
            if not op.done.done():
                op.done.set_exception(error)
        else:
            if not op.done.done():
                op.done.set_result(result)

    def _count(self, kind: str, results: Sequence[Any]) -> None:
        counts = self._guard.counts
        stored = sum(1 for result in results if result)
        if kind == "write":
            counts.writes += stored
        else:
            counts.deletes += stored

    def _take(self) -> list[_Op]:
        queue = self._queue
        batch = [queue.popleft()]
        kind = batch[0].kind
        if kind == "call":
            return batch
        total = 0
        while queue and queue[0].kind == kind and len(batch) < MOST_KEYS and total < MOST_BYTES:
            op = queue.popleft()
            batch.append(op)
            if kind == "write":
                total += len(op.argument.frame)
        return batch
