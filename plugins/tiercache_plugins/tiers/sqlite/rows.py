"""What is done to the rows: plain functions of a bare connection, each run whole in its thread."""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final
from zlib import crc32

from tiercache import NEVER, VOID, Clock, Order, Record, Undecodable
from tiercache.frame import COUNTER, TOMBSTONE, restamped, stamp_of, unpack
from tiercache_plugins.tiers.sqlite import batches
from tiercache_plugins.tiers.sqlite import statements as sql
from tiercache_plugins.tiers.sqlite.batches import Finder, Saved, Saves, parts
from tiercache_plugins.tiers.sqlite.locking import end
from tiercache_plugins.tiers.sqlite.place import Place
from tiercache_plugins.tiers.sqlite.room import Counts, Room, Totals
from tiercache_plugins.tiers.sqlite.standing import UNSOUND, Standing, checksum, stands
from tiercache_plugins.tiers.sqlite.voice import Voice

_HIGHEST: Final = 2**64 - 1
_REMEMBERED: Final = 8192
"""Damaged rows that wait to be dropped; of more, the oldest are forgotten."""
_ASIDE: Final = 32
"""Rows that are told of their reads beside what a transaction is for, where the order needs it."""
NOTED: Final = 2048
"""Rows whose reads one transaction for nothing else notes: about ten milliseconds."""


class Rows:
    """The rows of one database. Reads come from one thread, everything else from another."""

    __slots__ = (
        "_clock", "_damaged", "_going", "_max_bytes", "_over", "_place", "_room", "_wanted", "counts",
        "ranking", "voice",
    )  # fmt: skip

    def __init__(self, place: Place, clock: Clock, order: Order, max_bytes: int, voice: Voice) -> None:
        self.counts = Counts()
        self.voice = voice
        self._place = place
        self._clock = clock
        self._max_bytes = max_bytes
        self.ranking = sql.Ranking(order)
        self._room = Room(place, self.ranking, max_bytes, self.counts)
        self._wanted = Finder(sql.READ)
        self._over = Finder(sql.STANDING)
        self._going = Finder(sql.GOING)
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
        self._room.forget()
        self._damaged.clear()

    # Reading

    def read(self, connection: sqlite3.Connection, keys: Sequence[str]) -> list[bytes | None]:
        """Return the frame of each key."""
        now = self._clock.micros()
        frames: list[bytes | None] = []
        read: list[int] = []
        for part in parts([key.encode() for key in keys]):
            some: list[bytes | None] = [None] * len(part)
            for place, row, expires, summed, frame in self._wanted.find(connection, part):
                try:
                    sound = summed == crc32(frame, crc32(part[place], crc32(expires.to_bytes(8))))
                except UNSOUND:
                    sound = False
                if not sound:
                    self.counts.corrupt += 1
                    self._damaged.append((row, summed))
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
            saves = Saves(connection, now)
            for key, record in zip(keys, records, strict=True):
                found = standing
                if key in written:
                    # What was found before says nothing of a key that the batch itself has written since.
                    saves.flush()
                    found = self._standing(connection, [key], now)
                written.add(key)
                stored.append(self._store(connection, key, record, found.get(key), totals, now, saves))
            saves.flush()
            return stored

    def _standing(
        self, connection: sqlite3.Connection, keys: Sequence[bytes], now: int
    ) -> dict[bytes, Standing]:
        standing, damaged = stands(self._over, connection, keys, now)
        self.counts.corrupt += damaged
        return standing

    def _store(
        self,
        connection: sqlite3.Connection,
        key: bytes,
        record: Record,
        standing: Standing | None,
        totals: Totals,
        now: int,
        saves: Saves,
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
        stored = self._put(key, frame, record.expires_at, standing, totals, now, saves)
        if standing is not None or (stored and (record.news or not record.conditional)):
            # What was read or loaded before, and finds nothing standing, changes nothing for anybody.
            self.voice.note(key, stamp)
        return stamp if stored else 0

    def _put(
        self,
        key: bytes,
        frame: bytes,
        expires: int,
        standing: Standing | None,
        totals: Totals,
        now: int,
        saves: Saves,
    ) -> bool:
        size = 2 * len(key) + len(frame) + sql.UPKEEP
        if expires <= now or size > self._max_bytes:
            # What stood there is older than what could not be stored: it must not be read again.
            if standing is not None:
                self._leave(standing, totals, saves)
            return False
        saved = Saved(key, expires, size, checksum(key, expires, frame), frame)
        if standing is not None and standing.stamp is None:
            self._leave(standing, totals, saves)
            standing = None
        if standing is None:
            saves.add(None, saved)
        else:
            totals.take(standing.size)
            saves.add(standing.id, saved, sooner=expires < standing.due)
        totals.add(size)
        return True

    def _leave(self, standing: Standing, totals: Totals, saves: Saves) -> None:
        """Drop the row that stands. What was read of it must not be told to whom its id is given next."""
        saves.drop(standing.id)
        self._room.readings.of([standing.id])
        totals.take(standing.size)

    def delete(self, connection: sqlite3.Connection, keys: Sequence[str]) -> list[bool]:
        """Drop *keys* in one transaction."""
        octets = [key.encode() for key in keys]
        stood: set[bytes] = set()
        with self._writing(connection) as (totals, now):
            gone: dict[int, object] = {}
            for part in parts(octets):
                for place, row, expires, size in self._going.find(connection, part):
                    gone[row] = size
                    if isinstance(expires, int) and expires > now:
                        stood.add(part[place])
            self._drop(connection, gone, totals)
            answers: list[bool] = []
            for key in octets:
                self.voice.note(key, NEVER)
                answers.append(key in stood)
                # A key that is named twice stood there once.
                stood.discard(key)
        return answers

    def wipe(self, connection: sqlite3.Connection, low: bytes, high: bytes) -> bool:
        """Drop some keys from *low* to below *high*; return whether there may be more."""
        with self._writing(connection) as (totals, _):
            found = batches.numbers(connection, sql.WITHIN, (low, high))
            gone = {row: size for row, size in found if row is not None}
            self._drop(connection, gone, totals)
        return bool(gone)

    def _drop(self, connection: sqlite3.Connection, sizes: Mapping[int, object], totals: Totals) -> None:
        batches.change(connection, sql.DROP, [*sizes])
        for size in sizes.values():
            totals.take(size)
        self._room.readings.of([*sizes])

    def swap(self, connection: sqlite3.Connection, record: Record, expected: int | None) -> bool:
        """Store *record* where the stamp is *expected*."""
        key = record.key.encode()
        with self._writing(connection) as (totals, now):
            standing = self._standing(connection, [key], now).get(key)
            if (None if standing is None else standing.stamp) != expected:
                return False
            self.voice.note(key, record.stamp)
            saves = Saves(connection, now)
            stored = self._put(key, record.frame, record.expires_at, standing, totals, now, saves)
            saves.flush()
            return stored

    def increment(
        self, connection: sqlite3.Connection, record: Record, delta: int
    ) -> bytes | TypeError | OverflowError:
        """Raise a counter; return its frame, or the error that says why not."""
        key = record.key.encode()
        with self._writing(connection) as (totals, now):
            standing = self._standing(connection, [key], now).get(key)
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
            saves = Saves(connection, now)
            self._put(key, frame, expires, standing, totals, now, saves)
            saves.flush()
            self.voice.note(key, stamp_of(frame))
            return frame
