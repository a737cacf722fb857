"""The outbox: writes that the source has yet to be told of, in an SQLite file."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from tiercache import TierError

T = TypeVar("T")

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    value BLOB,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS outbox_keys ON outbox (key, seq);
CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox (key, seq) WHERE due > 0;
CREATE TABLE IF NOT EXISTS dead (
    seq INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    value BLOB,
    attempts INTEGER NOT NULL,
    error TEXT NOT NULL,
    died REAL NOT NULL
);
"""
# What has an earlier write of its key, or itself, waiting for another attempt is not due: order by key holds.
_DUE: Final = """
SELECT seq, key, value, attempts FROM outbox AS this
WHERE NOT EXISTS (
    SELECT 1 FROM outbox AS earlier INDEXED BY outbox_waiting
    WHERE earlier.key = this.key AND earlier.seq <= this.seq AND earlier.due > :now AND earlier.due > 0
)
ORDER BY seq LIMIT :count
"""
_BURY: Final = """
INSERT INTO dead (seq, key, value, attempts, error, died)
SELECT seq, key, value, attempts, :error, :now FROM outbox WHERE seq = :seq
"""


class Row(NamedTuple):
    """A write that waits."""

    seq: int
    key: str
    value: bytes | None
    """None: the key is to be removed."""
    attempts: int
    """How often the source was tried."""


class DeadRow(NamedTuple):
    """A write that was given up."""

    seq: int
    key: str
    value: bytes | None
    attempts: int
    error: str
    died: float
    """Wall time in seconds."""


class _Job(NamedTuple):
    work: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Outbox:
    """The file, and the one thread that touches it.

    All calls that wait while a transaction is under way are the next transaction, so that many writers share
    one `fsync`. What a call was answered is on the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._leading: sqlite3.Connection | None = None
        # The thread's own: how many writes wait, but for what other processes did since `due` was last asked.
        self._count = 0

    async def open(self) -> int:
        """Open the file; return how many writes wait. Raises TierError where it can't be."""
        opened: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._thread = threading.Thread(
            target=self._live, args=(asyncio.get_running_loop(), opened), name="tiercache-outbox", daemon=True
        )
        self._thread.start()
        return await opened

    async def close(self) -> None:
        """Finish what was asked for, then close the file. Safe to call twice."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(thread.join)

    async def append(self, key: str, value: bytes | None) -> int:
        """Add a write; return how many wait now. It is on the disk then."""

        def work(connection: sqlite3.Connection) -> int:
            connection.execute("INSERT INTO outbox (key, value) VALUES (?, ?)", (key, value))
            self._count += 1
            return self._count

        return await self._ask(work)

    async def due(self, count: int) -> tuple[list[Row], int]:
        """Return the first writes that may be delivered now, and how many wait in all."""

        def work(connection: sqlite3.Connection) -> tuple[list[Row], int]:
            found = connection.execute(_DUE, {"now": time.time(), "count": count}).fetchall()
            self._count = _waiting(connection)
            return [Row(*row) for row in found], self._count

        return await self._ask(work)

    async def delivered(self, seqs: Sequence[int]) -> int:
        """Forget writes that the source has; return how many wait now."""

        def work(connection: sqlite3.Connection) -> int:
            connection.executemany("DELETE FROM outbox WHERE seq = ?", [(seq,) for seq in seqs])
            self._count -= len(seqs)
            return self._count

        return await self._ask(work)

    async def failed(self, seq: int, pause: float) -> None:
        """Count an attempt, and let the write, and later ones of its key, wait for *pause* seconds."""
        await self._ask(
            lambda connection: connection.execute(
                "UPDATE outbox SET attempts = attempts + 1, due = ? WHERE seq = ?", (time.time() + pause, seq)
            )
        )

    async def bury(self, seq: int, error: str) -> int:
        """Give a write up: it goes to the table of dead letters. Return how many wait now."""

        def work(connection: sqlite3.Connection) -> int:
            connection.execute("UPDATE outbox SET attempts = attempts + 1 WHERE seq = ?", (seq,))
            connection.execute(_BURY, {"seq": seq, "error": error, "now": time.time()})
            connection.execute("DELETE FROM outbox WHERE seq = ?", (seq,))
            self._count -= 1
            return self._count

        return await self._ask(work)

    async def latest(self, key: str) -> Row | None:
        """Return the last write of *key* that waits."""

        def work(connection: sqlite3.Connection) -> Row | None:
            found = connection.execute(
                "SELECT seq, key, value, attempts FROM outbox WHERE key = ? ORDER BY seq DESC LIMIT 1", (key,)
            ).fetchone()
            return None if found is None else Row(*found)

        return await self._ask(work)

    async def dead(self, count: int) -> list[DeadRow]:
        """Return the first *count* writes that were given up."""

        def work(connection: sqlite3.Connection) -> list[DeadRow]:
            found = connection.execute(
                "SELECT seq, key, value, attempts, error, died FROM dead ORDER BY seq LIMIT ?", (count,)
            )
            return [DeadRow(*row) for row in found]

        return await self._ask(work)

    async def revive(self) -> int:
        """Put what was given up behind all that waits, with no attempts counted; return how much it was."""

        def work(connection: sqlite3.Connection) -> int:
            added = connection.execute(
                "INSERT INTO outbox (key, value) SELECT key, value FROM dead ORDER BY seq"
            )
            connection.execute("DELETE FROM dead")
            return added.rowcount

        return await self._ask(work)

    async def lead(self) -> bool:
        """Return whether this process is the one that delivers. Another takes over when it ends, however."""

        def work(connection: sqlite3.Connection) -> bool:
            del connection
            return self._lead()

        return await self._ask(work)

    def _lead(self) -> bool:
        if self._leading is None:
            # The lock of a file of its own, which the system releases whatever kills the process.
            leading = sqlite3.connect(f"{self._path}-leader", timeout=0, isolation_level=None)
            try:
                leading.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError:
                leading.close()
                return False
            self._leading = leading
        return True

    async def _ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        # Of a fork, the child has the object and not the thread.
        if self._thread is None or not self._thread.is_alive():
            raise TierError(f"the outbox {self._path} is not open")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(work, done, loop))
        return await done

    def _live(self, loop: asyncio.AbstractEventLoop, opened: asyncio.Future[int]) -> None:
        try:
            connection = _connected(self._path)
        except (sqlite3.Error, OSError) as error:
            _tell(loop, opened, None, TierError(f"the outbox {self._path} can't be opened: {error}"))
            return
        with contextlib.closing(connection):
            _tell(loop, opened, _waiting(connection), None)
            over = False
            while not over:
                over = self._transact(connection)
        if self._leading is not None:
            self._leading.close()
            self._leading = None

    def _transact(self, connection: sqlite3.Connection) -> bool:
        """Do all that waits in one transaction, then tell; return whether it was the last."""
        jobs = [self._jobs.get()]
        with contextlib.suppress(queue.Empty):
            while jobs[-1] is not None:
                jobs.append(self._jobs.get_nowait())
        asked = [job for job in jobs if job is not None]
        answers: list[tuple[Any, Exception | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            answers = [_tried(job, connection) for job in asked]
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = TierError(f"the outbox {self._path}: {error}")
            answers = [(None, failure)] * len(asked)
        for job, (answer, failed) in zip(asked, answers, strict=True):
            _tell(job.loop, job.done, answer, failed)
        return len(asked) < len(jobs)


def _connected(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Values may be secrets: nobody else's eyes.
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # The power may fail right after a write was acknowledged.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
        connection.executescript(_SCHEMA)
        # A clock that was set back must not keep anything waiting beyond a restart.
        connection.execute("UPDATE outbox SET due = 0 WHERE due > 0")
    except BaseException:
        connection.close()
        raise
    return connection


def _waiting(connection: sqlite3.Connection) -> int:
    count: int = connection.execute("SELECT count(*) FROM outbox").fetchone()[0]
    return count


def _tried(job: _Job, connection: sqlite3.Connection) -> tuple[Any, Exception | None]:
    connection.execute("SAVEPOINT job")
    try:
        answer = job.work(connection)
    except Exception as error:  # noqa: BLE001 - one call that fails must not take the thread, and all others, along
        connection.execute("ROLLBACK TO job")
        return None, TierError(f"the outbox: {type(error).__name__}: {error}")
    connection.execute("RELEASE job")
    return answer, None


def _tell(
    loop: asyncio.AbstractEventLoop, done: asyncio.Future[Any], answer: Any, error: Exception | None
) -> None:
    def settle() -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(answer)

    # A loop that is closed has nobody who waits.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(settle)
