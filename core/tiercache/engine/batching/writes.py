"""The writes of a far tier."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal, NamedTuple

from tiercache.clock import Clock
from tiercache.contracts import VOID, Locks, Record
from tiercache.engine.batching.reads import MOST_KEYS
from tiercache.engine.codec import tombstone
from tiercache.engine.guard import FRAMES, NUMBERS, Guard, answers
from tiercache.engine.recovery import Recovery
from tiercache.engine.tasks import Woken, begin, settle, wake

log = logging.getLogger("tiercache.engine")

MOST_BYTES: Final = 4 * 2**20
"""Bytes after which a batch of writes is closed."""
LOOK_AGAIN: Final = 1.0
"""Seconds between two looks whether a tier that nobody asks can be told what it missed."""


_tuple = tuple.__new__


class _Act(NamedTuple):
    act: Callable[[], Awaitable[Any]]
    passing: tuple[type[Exception], ...]


_Kind = Literal["write", "delete", "bury", "call", "wipe"]


class _Op(NamedTuple):
    kind: _Kind
    address: str | None
    argument: Any
    """The record of a write or of a burial, the stamp of a delete, the act of a call."""
    done: asyncio.Future[Any]
    origin: Any = None
    """The span that this belongs to."""


class Writes:
    """The writes, deletes and other changes of one far tier, in the order in which they were asked for.

    Order is the point: a delete that overtook the write before it would leave the value standing. What the
    tier could not be told waits in the recovery queue, and is made good from here, between two batches.
    """

    __slots__ = ("_batch", "_clock", "_guard", "_queue", "_recovery", "_task", "_timer", "voids")

    def __init__(self, guard: Guard, recovery: Recovery, clock: Clock) -> None:
        self._guard = guard
        self._recovery = recovery
        self._clock = clock
        self._queue: deque[_Op] = deque()
        self._batch: list[_Op] = []
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        recovery.given_up = self._give_up
        self.voids: Locks | None = None
        """Where loads take leases: each write or delete voids that of its key, so that nothing is stored
        which was loaded before it.
        """

    def write(self, record: Record) -> asyncio.Future[int | None]:
        """Store *record*; the future brings its stamp, 0 where kept out, None where the tier failed.

        Where the record has a lease, -1 where that is lost.
        """
        return self._submit("write", record.key, self._voiding(record))

    def delete(self, address: str) -> asyncio.Future[bool | None]:
        """Drop *address*; the future brings whether it was there, None where the tier failed."""
        return self._submit("delete", address, self._clock.stamp())

    def bury(self, address: str, seconds: float) -> asyncio.Future[bytes | None]:
        """Drop *address*, and keep out for *seconds* what is older than this. The future brings the frame
        that stood there, empty for none, None where the tier failed.
        """
        stamp = self._clock.final()
        expires_at = self._clock.micros() + int(seconds * 1_000_000)
        frame = tombstone(address.encode(), stamp, expires_at)
        return self._submit("bury", address, self._voiding(Record(address, frame, expires_at, stamp)))

    def call(self, act: Callable[[], Awaitable[Any]], about: str | None = None) -> asyncio.Future[Any]:
        """Do *act* in its turn; the future brings what it returns, None where the tier failed.

        Where it is *about* one address, the tier must first have been told what it missed of that.
        """
        return self._submit("call", about, _Act(act, ()))

    def count(self, act: Callable[[], Awaitable[Any]], about: str | None = None) -> asyncio.Future[Any]:
        """As `call`, but a TypeError or OverflowError is an answer, and is raised by the future."""
        return self._submit("call", about, _Act(act, (TypeError, OverflowError)))

    def wipe(self) -> asyncio.Future[bool | None]:
        """Drop everything; the future brings True, or None where the tier failed. Then all of it is hidden
        until that is made good.
        """
        return self._submit("wipe", None, None)

    def addresses(self) -> list[str]:
        """Return the addresses of what the tier is being told, or has yet to be told."""
        under_way = [op.address for op in (*self._batch, *self._queue) if op.address is not None]
        return [*under_way, *self._recovery.addresses()]

    def replay(self) -> None:
        """Begin to make good what the tier missed, where something waits and the tier may be asked."""
        if self._task is None and self._recovery.due():
            self._start(asyncio.get_running_loop())

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        while (task := self._task) is not None:
            await asyncio.wait([task])

    def end(self) -> None:
        """Give up what is in flight, and what waits to be made good."""
        task = self._task
        self._give_up()
        if task is not None:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if lost := len(self._recovery):
            log.warning(
                "tier %s was never told of %d writes: it may serve what they replaced", self._guard.name, lost
            )

    def _submit(self, kind: _Kind, address: str | None, argument: Any) -> asyncio.Future[Any]:
        task, watch = self._task, self._guard.watch
        # To ask for the running loop is a system call on Python 3.11.
        loop = asyncio.get_running_loop() if task is None else task.get_loop()
        done: asyncio.Future[Any] = asyncio.Future(loop=loop)
        # The class's own way in is a function written in Python, and takes twice as long.
        op = _tuple(_Op, (kind, address, argument, done, None if watch is None else watch.origin()))
        if task is None and self._guard.barred():
            # Nothing is under way that this could overtake.
            self._miss(op)
            return done
        self._queue.append(op)
        if task is None:
            self._start(loop)
        return done

    def _voiding(self, record: Record) -> Record:
        return record if record.conditional or self.voids is None else record._replace(lease=VOID)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._task = begin(self._run(), "tiercache-writes", loop=loop)

    async def _run(self) -> None:
        me = asyncio.current_task()
        recovery = self._recovery
        well = False
        try:
            while self._queue or recovery.due():
                # Callers first, but for a wipe: what they write must not be swept away with the rest.
                if recovery.due() and (well or recovery.whole or not self._queue):
                    well = False
                    if self._guard.watch is not None:
                        self._guard.watch.carry(())
                    await recovery.replay()
                else:
                    self._batch = self._take()
                    well = await self._do(self._batch)
                if self._task is not me:
                    return
        finally:
            if self._task is me:
                self._task = None
                for op in (*self._batch, *self._queue):
                    op.done.cancel()
                self._batch = []
                self._queue.clear()
                self._look_again()

    async def _do(self, batch: list[_Op]) -> bool:
        """Do what *batch* asks for; return whether the tier did."""
        kind = batch[0].kind
        timeouts = self._guard.timeouts
        if self._guard.watch is not None:
            self._guard.watch.carry([op.origin for op in batch])
        if kind == "call":
            results = await self._call(batch[0])
        elif kind == "wipe":
            results = await self._wipe()
        elif self._recovery.whole:
            results = None
        elif kind == "write":
            results = await self._write([op.argument for op in batch])
        elif kind == "bury":
            results = await self._bury([op.argument for op in batch])
        else:
            results = await self._delete([op.address for op in batch])
        if self._batch is not batch:
            return False
        self._batch = []
        if results is None:
            for op in batch:
                self._miss(op)
        else:
            woken: Woken = []
            for op, result in zip(batch, results, strict=True):
                settle((op.done,), result, woken)
            wake(woken)
        if self._guard.timeouts != timeouts:
            # It hangs. Whoever waits behind has waited long enough, too.
            while self._queue:
                self._miss(self._queue.popleft())
        return results is not None

    async def _write(self, records: list[Record]) -> Sequence[Any] | None:
        recovery, guard = self._recovery, self._guard
        sent = records
        if recovery.any:
            # What was read or loaded before something that the tier has yet to be told is out of date.
            sent = [record for record in records if not (record.conditional and recovery.outdates(record))]
        if not sent:
            return [0] * len(records)
        stored = await guard.call(answers, guard.tier.write, sent, NUMBERS, given_up=self._give_up)
        if stored is None:
            return None
        counts = guard.counts
        for record, stamp in zip(sent, stored, strict=True):
            if stamp > 0:
                counts.writes += 1
                counts.bytes_written += len(record.frame)
                if recovery.any:
                    recovery.written(record)
        if sent is records:
            return stored
        stamps = {id(record): stamp for record, stamp in zip(sent, stored, strict=True)}
        return [stamps.get(id(record), 0) for record in records]

    async def _delete(self, addresses: list[Any]) -> Sequence[Any] | None:
        guard, locks = self._guard, self.voids
        if locks is not None:
            voided = await guard.call(answers, locks.void, addresses, NUMBERS, given_up=self._give_up)
            if voided is None or asyncio.current_task() is not self._task:
                return None
        act = guard.tier.delete
        dropped = await self._guard.call(answers, act, addresses, NUMBERS, given_up=self._give_up)
        if dropped is not None:
            self._guard.counts.deletes += sum(1 for there in dropped if there)
            for address in addresses:
                self._recovery.deleted(address)
        return dropped

    async def _bury(self, records: list[Record]) -> Sequence[Any] | None:
        guard = self._guard
        addresses = [record.key for record in records]
        stood = await guard.call(answers, guard.tier.read, addresses, FRAMES, given_up=self._give_up)
        if stood is None or asyncio.current_task() is not self._task:
            return None
        stamps = await guard.call(answers, guard.tier.write, records, NUMBERS, given_up=self._give_up)
        if stamps is None or asyncio.current_task() is not self._task:
            return None
        # What the tier has no room to remember is dropped all the same.
        refused = [record.key for record, stamp in zip(records, stamps, strict=True) if not stamp]
        if refused and await self._delete(refused) is None:
            return None
        guard.counts.deletes += sum(1 for frame in stood if frame is not None) if not refused else 0
        for address in addresses:
            self._recovery.deleted(address)
        return [frame or b"" for frame in stood]

    async def _wipe(self) -> Sequence[Any] | None:
        self._recovery.miss_wipe()
        await self._recovery.replay()
        return None if self._recovery.whole else [True]

    async def _call(self, op: _Op) -> Sequence[Any] | None:
        recovery = self._recovery
        if op.address is not None and recovery.hides(op.address):
            await recovery.replay(op.address)
            if recovery.hides(op.address):
                return None
        act, passing = op.argument
        try:
            result = await self._guard.call(act, passing=passing, given_up=self._give_up)
        except passing as error:
            if not op.done.done():
                op.done.set_exception(error)
            return [None]
        return None if result is None else [result]

    def _miss(self, op: _Op) -> None:
        """Keep what *op* asked for until the tier is back."""
        if op.kind == "write":
            self._recovery.miss_write(op.argument)
        elif op.kind == "delete":
            assert op.address is not None
            self._recovery.miss_delete(op.address, op.argument)
        elif op.kind == "bury":
            self._recovery.miss_delete(op.argument.key, op.argument.stamp)
        elif op.kind == "wipe":
            self._recovery.miss_wipe()
        if not op.done.done():
            op.done.set_result(None)
        self._look_again()

    def _give_up(self) -> None:
        """Leave the task to itself; what it had to do waits in the recovery queue."""
        self._task = None
        ops = (*self._batch, *self._queue)
        self._batch = []
        self._queue.clear()
        for op in ops:
            self._miss(op)

    def _look_again(self) -> None:
        # Closed, it may still be asked by those whose calls outlast it; nobody looks after it any more.
        if self._timer is None and len(self._recovery) and not self._guard.closed:
            self._timer = asyncio.get_running_loop().call_later(LOOK_AGAIN, self._look)

    def _look(self) -> None:
        self._timer = None
        self.replay()
        self._look_again()

    def _take(self) -> list[_Op]:
        queue = self._queue
        batch = [queue.popleft()]
        kind = batch[0].kind
        if kind in {"call", "wipe"}:
            return batch
        total = 0
        while queue and queue[0].kind == kind and len(batch) < MOST_KEYS and total < MOST_BYTES:
            op = queue.popleft()
            batch.append(op)
            if kind == "write":
                total += len(op.argument.frame)
        return batch
