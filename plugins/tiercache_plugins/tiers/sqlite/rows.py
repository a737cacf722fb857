"""What is done to the rows: plain functions of a bare connection, each run whole in its thread."""

from __future__ import annotations

import sqlite3
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from zlib import crc32

from tiercache import NEVER, VOID, Clock, Order, Record, Undecodable
from tiercache.frame import COUNTER, TOMBSTONE, restamped, stamp_of, unpack
from tiercache_plugins.tiers.sqlite import statements as sql
from tiercache_plugins.tiers.sqlite.locking import end
from tiercache_plugins.tiers.sqlite.place import Place
from tiercache_plugins.tiers.sqlite.readings import Readings
from tiercache_plugins.tiers.sqlite.room import Counts, Room, Totals
from tiercache_plugins.tiers.sqlite.voice import Voice

_HIGHEST: Final = 2**64 - 1
_REMEMBERED: Final = 8192
"""Damaged rows that wait to be dropped; of more, the oldest are forgotten."""
_ASIDE: Final = 32
"""Rows that are told of their reads beside what a transaction is for, where the order needs it."""
NOTED: Final = 2048
"""Rows whose reads one transaction for nothing else notes: about ten milliseconds."""


class Standing(NamedTuple):
    """The row of a key, as a write finds it."""

    id: int
    size: int
    due: int
    """When the row is looked at for expiry; not after it expires."""
    stamp: int | None
    """None where it has expired or is damaged: then nothing stands, but the row is there."""


class Rows:
    """The rows of one database. Reads come from one thread, everything else from another."""

    __slots__ = (
        "_clock", "_damaged", "_max_bytes", "_place", "_room", "counts", "ranking", "voice",
    )  # fmt: skip

    def __init__(self, place: Place, clock: Clock, order: Order, max_bytes: int, voice: Voice) -> None:
        self.counts = Counts()
        self.voice = voice
        self._place = place
        self._clock = clock
        self._max_bytes = max_bytes
        self.ranking = sql.Ranking(order)
        self._room = Room(place, self.ranking, max_bytes, self.counts)
        # Filled by the reading thread, emptied by the writing one.
        self._damaged: deque[tuple[int, object]] = deque(maxlen=_REMEMBERED)

    @property
    def waiting(self) -> int:
        """How many rows, read or damaged, wait for a transaction to be noted in."""
        return len(self._room.readings) + len(self._damaged)

    @property
    def pressing(self) -> bool:
        """Whether it is time to note reads, or some are forgotten."""
        return self._room.readings.full

    def forget(self) -> None:
        """Forget what waits to be noted: it is about another file."""
        # Not emptied: in the child of a fork the lock of the old ones may be held for ever.
        self._room.readings = Readings()
        self._damaged.clear()

    # Reading

    def read(self, connection: sqlite3.Connection, keys: Sequence[str]) -> list[bytes | None]:
        """Return the frame of each key."""
        now = self._clock.micros()
        frames: list[bytes | None] = []
        read: list[int] = []
        for part in _lists([key.encode() for key in keys]):
            some: list[bytes | None] = [None] * len(part)
            found = connection.execute(sql.READ[len(part)], part).fetchall()
            for place, row, expires, checksum, frame in found:
                try:
                    sound = checksum == crc32(frame, crc32(part[place], crc32(expires.to_bytes(8))))
                except _UNSOUND:
                    sound = False
                if not sound:
                    self.counts.corrupt += 1
                    self._damaged.append((row, checksum))
                elif expires > now:
                    some[place] = frame
                    read.append(row)
            frames += some
        if read and self.ranking.watches:
            self._room.readings.note(read, now)
        # What lists are filled up with is found nowhere.
        del frames[len(keys) :]
        return frames

    def page(
        self, connection: sqlite3.Connection, start: bytes, below: bytes
    ) -> tuple[list[str], bytes | None]:
        """Return some keys from *start* to below *below*, and where to go on; None at the end."""
        found = connection.execute(sql.SCAN, (start, below, self._clock.micros())).fetchall()
        keys: list[str] = []
        for (key,) in found:
            try:
                keys.append(key.decode())
            except (UnicodeDecodeError, AttributeError):
                self.counts.corrupt += 1
        # The next key at the earliest: the last with a zero byte behind.
        return keys, found[-1][0] + b"\0" if found else None

    # Writing

    @contextmanager
    def _writing(self, connection: sqlite3.Connection, noted: int = 0) -> Iterator[tuple[Totals, int]]:
        # Always IMMEDIATE: a transaction that reads first and then writes fails at once where another
        # process wrote in between, whatever the timeout.
        with self._place.held():
            connection.execute("BEGIN IMMEDIATE")
            try:
                now = self._clock.micros()
                totals = self._room.totals(connection)
                if noted or not self.ranking.rises:
                    self._room.note(connection, noted or _ASIDE)
                self._drop_damaged(connection, totals)
                yield totals, now
                self._room.make(connection, totals, now)
                self.voice.tell(connection)
                connection.execute("COMMIT")
            except BaseException:
                self.voice.forget()
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self.counts.entries, self.counts.bytes = totals.entries, totals.bytes
            self._room.tidy(connection)

    def _drop_damaged(self, connection: sqlite3.Connection, totals: Totals) -> None:
        for _ in range(min(len(self._damaged), sql.CHUNK)):
            for (size,) in connection.execute(sql.DROP_DAMAGED, self._damaged.popleft()).fetchall():
                totals.take(size)

    def note(self, connection: sqlite3.Connection) -> None:
        """Note some of the reads that wait, drop what was found damaged or has expired."""
        with self._writing(connection, NOTED):
            pass

    def tend(self, connection: sqlite3.Connection, budget: float) -> None:
        """Note, expire and evict until nothing is left to do, for at most about *budget* seconds."""
        deadline = time.monotonic() + budget
        while True:
            counts = self.counts
            before = counts.expired + counts.postponed + counts.evicted
            self.note(connection)
            idle = counts.expired + counts.postponed + counts.evicted == before and not self.waiting
            if idle or time.monotonic() > deadline:
                return

    def finish(self, connection: sqlite3.Connection, budget: float) -> None:
        """Note what waits and empty the log, so that the database stands in one file."""
        if self.waiting:
            self.tend(connection, budget / 2)
        with self._place.held():
            self._room.checkpoint(connection, budget / 2)

    def write(self, connection: sqlite3.Connection, records: Sequence[Record]) -> list[int]:
        """Store *records* in one transaction."""
        with self._writing(connection) as (totals, now):
            keys = [record.key.encode() for record in records]
            standing = self._standing(connection, keys, now)
            stored: list[int] = []
            written: set[bytes] = set()
            for key, record in zip(keys, records, strict=True):
                # What was found before says nothing of a key that the batch itself has written since.
                found = self._standing(connection, (key,), now) if key in written else standing
                written.add(key)
                stored.append(self._store(connection, key, record, found.get(key), totals, now))
            return stored

    def _standing(
        self, connection: sqlite3.Connection, keys: Sequence[bytes], now: int
    ) -> dict[bytes, Standing]:
        standing: dict[bytes, Standing] = {}
        for part in _lists(keys):
            # Row by row: what stands may be large.
            for place, row, expires, checksum, size, due, frame in connection.execute(
                sql.STANDING[len(part)], part
            ):
                key = part[place]
                sound = _sound(key, expires, checksum, frame)
                self.counts.corrupt += not sound
                standing[key] = Standing(
                    row,
                    size if isinstance(size, int) else 0,
                    due if isinstance(due, int) else NEVER,
                    stamp_of(frame) if sound and expires > now else None,
                )
        return standing

    def _store(
        self,
        connection: sqlite3.Connection,
        key: bytes,
        record: Record,
        standing: Standing | None,
        totals: Totals,
        now: int,
    ) -> int:
        if record.lease:
            ended = end(connection, key, None if record.lease == VOID else record.lease, now)
            if not ended and record.lease != VOID:
                return -1
        stamp, frame = record.stamp, record.frame
        if standing is not None and standing.stamp is not None and standing.stamp >= stamp:
            if record.conditional:
                return 0
            stamp = min(standing.stamp + 1, _HIGHEST)
            frame = restamped(frame, stamp)
        stored = self._put(connection, key, frame, record.expires_at, standing, totals, now)
        if standing is not None or (stored and (record.news or not record.conditional)):
            # What was read or loaded before, and finds nothing standing, changes nothing for anybody.
            self.voice.note(key, stamp)
        return stamp if stored else 0

    def _put(
        self,
        connection: sqlite3.Connection,
        key: bytes,
        frame: bytes,
        expires: int,
        standing: Standing | None,
        totals: Totals,
        now: int,
    ) -> bool:
        size = 2 * len(key) + len(frame) + sql.UPKEEP
        if expires <= now or size > self._max_bytes:
            # What stood there is older than what could not be stored: it must not be read again.
            if standing is not None:
                connection.execute(sql.DROP, (standing.id,))
                totals.take(standing.size)
            return False
        checksum = _checksum(key, expires, frame)
        if standing is None:
            connection.execute(sql.INSERT, (key, expires, now, size, checksum, frame))
            totals.add(size)
        elif standing.stamp is None:
            connection.execute(sql.DROP, (standing.id,))
            connection.execute(sql.INSERT, (key, expires, now, size, checksum, frame))
            totals.take(standing.size)
            totals.add(size)
        else:
            rewrite = sql.REWRITE if expires >= standing.due else sql.REWRITE_SOONER
            connection.execute(rewrite, (expires, now, size, checksum, frame, standing.id))
            totals.take(standing.size)
            totals.add(size)
        return True

    def delete(self, connection: sqlite3.Connection, keys: Sequence[str]) -> list[bool]:
        """Drop *keys* in one transaction."""
        answers: list[bool] = []
        with self._writing(connection) as (totals, now):
            for key in keys:
                gone = connection.execute(sql.DELETE, (key.encode(),)).fetchall()
                for row, _, size in gone:
                    self._gone(row, size, totals)
                self.voice.note(key.encode(), NEVER)
                answers.append(any(isinstance(expires, int) and expires > now for _, expires, _ in gone))
        return answers

    def wipe(self, connection: sqlite3.Connection, low: bytes, high: bytes) -> bool:
        """Drop some keys from *low* to below *high*; return whether there may be more."""
        with self._writing(connection) as (totals, _):
            gone = connection.execute(sql.WIPE, (low, high)).fetchall()
            for row, size in gone:
                self._gone(row, size, totals)
        return bool(gone)

    def _gone(self, row: int, size: object, totals: Totals) -> None:
        totals.take(size)
        self._room.readings.of((row,))

    def swap(self, connection: sqlite3.Connection, record: Record, expected: int | None) -> bool:
        """Store *record* where the stamp is *expected*."""
        key = record.key.encode()
        with self._writing(connection) as (totals, now):
            standing = self._standing(connection, (key,), now).get(key)
            if (None if standing is None else standing.stamp) != expected:
                return False
            self.voice.note(key, record.stamp)
            return self._put(connection, key, record.frame, record.expires_at, standing, totals, now)

    def increment(
        self, connection: sqlite3.Connection, record: Record, delta: int
    ) -> bytes | TypeError | OverflowError:
        """Raise a counter; return its frame, or the error that says why not."""
        key = record.key.encode()
        with self._writing(connection) as (totals, now):
            standing = self._standing(connection, (key,), now).get(key)
            frame, expires, total = record.frame, record.expires_at, delta
            if standing is not None and standing.stamp is not None:
                until, stood = connection.execute(sql.COUNTER, (standing.id,)).fetchone()
                try:
                    head = unpack(key, stood)
                    if not head.flags & TOMBSTONE:
                        if not head.flags & COUNTER:
                            return TypeError("what stands under the key is no counter")
                        total = int(stood[head.payload :]) + delta
                        if not -(2**63) <= total < 2**63:
                            return OverflowError("the sum does not fit 64 bits")
                        frame, expires = stood[: head.payload] + b"%d" % total, until
                except (Undecodable, ValueError):
                    return TypeError("what stands under the key is no counter")
                # Above what stood, so that a swap by somebody who read before the increment fails.
                frame = restamped(frame, min(max(standing.stamp + 1, record.stamp), _HIGHEST))
            self._put(connection, key, frame, expires, standing, totals, now)
            self.voice.note(key, stamp_of(frame))
            return frame


def _lists(keys: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Yield *keys* in parts that there is a statement for; the last is filled up."""
    for start in range(0, len(keys), sql.LISTS[-1]):
        part = [*keys[start : start + sql.LISTS[-1]]]
        part += [sql.FILLER] * (sql.LISTS[bisect_left(sql.LISTS, len(part))] - len(part))
        yield part


def _checksum(key: bytes, expires: int, frame: bytes) -> int:
    return crc32(frame, crc32(key, crc32(expires.to_bytes(8))))


_UNSOUND: Final = (TypeError, AttributeError, OverflowError)


def _sound(key: Any, expires: Any, checksum: object, frame: Any) -> bool:
    # A damaged row may hold anything: SQLite's types belong to the value, not to the column. What is of
    # another type, or negative, has no checksum; to look at each type first took as long as the sum.
    try:
        return checksum == _checksum(key, expires, frame)
    except _UNSOUND:
        return False
