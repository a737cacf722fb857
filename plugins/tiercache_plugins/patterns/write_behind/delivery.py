"""Delivery: from the outbox to the source, at least once, in order by key."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from tiercache import MISSING, Missing, Serializer, TiercacheError
from tiercache.keys import check_key
from tiercache_plugins.patterns.source import called
from tiercache_plugins.patterns.turns import Turns
from tiercache_plugins.patterns.write_behind.outbox import Outbox, Row

log = logging.getLogger("tiercache.patterns")

_LOOK: Final = 1.0
"""Seconds after which a process looks again for writes of others, and whether it may deliver."""


class OutboxFull(TiercacheError):
    """The source is so far behind that no more writes are taken."""


class Write(NamedTuple):
    """A write as a function for batches is given it."""

    seq: int
    """Rises with every write, and stays when it is delivered again: what a source can tell repeats by."""
    key: str
    value: Any
    removed: bool
    """The key is to be removed; `value` is None."""
    attempts: int
    """How often it was tried before."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How writes are delivered. Durations are seconds."""

    batch: int = 100
    """Writes at most that are taken from the outbox at once."""
    max_pending: int = 10_000
    """Writes that may wait; then `push` waits."""
    patience: float = 5.0
    """For how long `push` waits before it raises OutboxFull."""
    backoff: float = 0.1
    """Pause after the first failure of a write; each further one doubles it."""
    max_backoff: float = 300.0
    max_attempts: int = 20
    """Failures after which a write becomes a dead letter, and later ones of its key go on."""
    drain: float = 2.0
    """For how long `close` goes on delivering. What is left stays in the file."""


class Delivery:
    """An outbox, and the task that empties it."""

    def __init__(
        self,
        path: Path,
        serializer: Callable[[], Serializer],
        *,
        writer: Callable[..., Any] | None = None,
        remover: Callable[..., Any] | None = None,
        batch_writer: Callable[..., Any] | None = None,
        terms: Terms | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if (writer is None) == (batch_writer is None):
            raise ValueError("either writer or batch_writer is needed, and one of them alone")
        self._outbox = Outbox(path)
        self._serializer = serializer
        self._writer = writer
        self._remover = remover
        self._batch_writer = batch_writer
        self._terms = terms or Terms()
        self._chance = chance
        self._codec: Serializer | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = self._leads = False
        self._opening = asyncio.Lock()
        self._appending = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self.turns = Turns()
        """Who writes a key, so that outbox and cache agree on the last value."""
        self.pending = 0
        """Writes that wait, as far as this process knows."""
        self.delivered = 0
        """Writes that the source took from this process."""
        self.retries = 0
        """Attempts that failed."""
        self.buried = 0
        """Writes that were given up."""

    async def open(self) -> None:
        """Open the file, and begin to deliver what waits there. Raises TierError where it can't be opened."""
        if self._task is not None:
            return
        async with self._opening:
            if self._task is None:
                await self._open()

    async def _open(self) -> None:
        self._codec = self._serializer()
        self.pending = await self._outbox.open()
        self._closing = self._leads = False
        self._room.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="tiercache-write-behind")

    async def close(self) -> None:
        """Deliver for a while what waits, then close the file. Safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            self._closing = True
            self._news.set()
            await asyncio.wait([task], timeout=self._terms.drain)
            task.cancel()
            await asyncio.wait([task])
        await self._outbox.close()

    async def push(self, key: str, value: Any | Missing) -> None:
        """Put a write into the outbox; MISSING removes the key. On the disk when this returns.

        Raises OutboxFull after waiting for room, Unserializable for what can't be brought back, TierError
        where the file can't be written.
        """
        if value is MISSING and self._remover is None and self._batch_writer is None:
            raise TypeError("nothing says how to remove a key from the source: give a remover")
        check_key(key)
        assert self._codec is not None, "it was opened"
        data = None if value is MISSING else self._codec.dumps(value)
        await self._wait_for_room()
        self._appending += 1
        try:
            self.pending = await self._outbox.append(key, data)
        finally:
            self._appending -= 1
            self._news.set()

    async def waiting(self, key: str) -> tuple[Any | Missing] | None:
        """Return the value that waits for *key*, in a tuple; MISSING in it where the key is to be removed.
        None: nothing waits.
        """
        row = await self._outbox.latest(key)
        return None if row is None else (self._value(row),)

    async def dead(self, count: int) -> list[tuple[Write, str]]:
        """Return the first *count* writes that were given up, each with its last error."""
        found = []
        for row in await self._outbox.dead(count):
            write = self._write(Row(row.seq, row.key, row.value, row.attempts))
            found.append((write, row.error))
        return found

    async def revive(self) -> int:
        """Try once more what was given up; return how much it was."""
        count = await self._outbox.revive()
        self._news.set()
        return count

    async def settle(self) -> None:
        """Wait until nothing waits, of any process."""
        while (await self._outbox.due(1))[1]:  # noqa: ASYNC110 - another process may deliver
            await asyncio.sleep(0.01)

    async def _wait_for_room(self) -> None:
        if self.pending + self._appending < self._terms.max_pending:
            return
        try:
            async with asyncio.timeout(self._terms.patience):
                while self.pending + self._appending >= self._terms.max_pending:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError as error:
            raise OutboxFull(
                f"{self.pending} writes wait for the source, {self._terms.max_pending} are accepted"
            ) from error

    def _value(self, row: Row) -> Any | Missing:
        assert self._codec is not None, "it was opened"
        return MISSING if row.value is None else self._codec.loads(row.value)

    def _write(self, row: Row) -> Write:
        value = self._value(row)
        removed = value is MISSING
        return Write(row.seq, row.key, None if removed else value, removed, row.attempts)

    async def _run(self) -> None:
        while True:
            self._news.clear()
            try:
                rows = await self._next()
                if rows:
                    await self._deliver(rows)
                    continue
            except Exception as error:  # noqa: BLE001 - whatever it is, what waits must be delivered some day
                log.warning("write-behind: %s: %s", type(error).__name__, error)
            if self._closing and not (self.pending and self._leads):
                return
            try:
                async with asyncio.timeout(min(_LOOK, self._terms.backoff) if self.pending else _LOOK):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _next(self) -> Sequence[Row]:
        rows, self.pending = await self._outbox.due(self._terms.batch)
        self._room.set()
        if rows:
            self._leads = await self._outbox.lead()
        return rows if self._leads else ()

    async def _deliver(self, rows: Sequence[Row]) -> None:
        """Offer *rows* to the source: together where it takes them so, else one after the other."""
        if self._batch_writer is not None and len(rows) > 1:
            try:
                await called(self._batch_writer, [self._write(row) for row in rows])
            except Exception as error:  # noqa: BLE001 - one of them may be at fault: each is tried by itself
                log.info("write-behind: a batch of %d failed: %s: %s", len(rows), type(error).__name__, error)
            else:
                await self._done([row.seq for row in rows])
                return
        done: list[int] = []
        failed: set[str] = set()
        try:
            for row in rows:
                # Later ones of a key wait for those that failed.
                if row.key in failed:
                    continue
                try:
                    await self._offer(row)
                except Exception as error:  # noqa: BLE001 - the source's; it is counted, and tried again
                    failed.add(row.key)
                    await self._failed(row, error)
                else:
                    done.append(row.seq)
        finally:
            if done:
                await self._done(done)

    async def _offer(self, row: Row) -> None:
        write = self._write(row)
        if self._batch_writer is not None:
            await called(self._batch_writer, [write])
        elif not write.removed:
            assert self._writer is not None, "one of the two is there"
            await called(self._writer, write.key, write.value)
        elif self._remover is not None:
            await called(self._remover, write.key)
        else:
            raise TypeError("nothing says how to remove a key from the source: give a remover")

    async def _done(self, seqs: Sequence[int]) -> None:
        # Also when it is cancelled: what the source has need not be offered to it again.
        forgotten = asyncio.ensure_future(self._outbox.delivered(seqs))
        self.delivered += len(seqs)
        self.pending = await asyncio.shield(forgotten)
        self._room.set()

    async def _failed(self, row: Row, error: Exception) -> None:
        told = f"{type(error).__name__}: {error}"
        self.retries += 1
        if row.attempts + 1 >= self._terms.max_attempts:
            self.buried += 1
            log.error("write-behind: %r is given up after %d attempts: %s", row.key, row.attempts + 1, told)
            self.pending = await self._outbox.bury(row.seq, told)
            self._room.set()
            return
        pause = min(self._terms.backoff * 2.0**row.attempts, self._terms.max_backoff)
        log.info("write-behind: %r failed, again in %.1f s: %s", row.key, pause, told)
        await self._outbox.failed(row.seq, pause * (0.5 + self._chance() / 2))
