"""How the file is kept small: expired rows, eviction in the policy's order, the free list, the log."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from itertools import chain
from typing import TYPE_CHECKING, Final

from tiercache_plugins.tiers.sqlite import batches
from tiercache_plugins.tiers.sqlite import statements as sql
from tiercache_plugins.tiers.sqlite.readings import Reading, Readings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiercache_plugins.tiers.sqlite.place import Place

log = logging.getLogger("tiercache.tier")

_LOG: Final = 4 * 2**20
_LONGEST_LOG: Final = 32 * 2**20
"""Bytes of the write-ahead log after which it is copied into the database: a 64th of what may be kept, within
these bounds. Each copy waits for the device twice or three times, however little it copies.
"""
_SLACK: Final = 2**19
"""Bytes that the file may have beyond its share, for indexes and half-filled pages of small databases."""
_FREE: Final = 256
"""Pages that one step gives back to the file system."""
_SWEPT: Final = 512
"""Notes that one step looks at, at least, for those of rows that are gone."""
_CHANCES: Final = 32
"""Rows that are spared or placed anew for each that goes; beyond, rows go as they stand in the index. Also
chunks in a row of rows that were due and live on.
"""


class Counts:
    """What happened since the tier was opened, in this process."""

    __slots__ = ("bytes", "corrupt", "entries", "evicted", "expired", "postponed", "untidy")

    def __init__(self) -> None:
        self.entries = 0
        """Rows in the file when this process last wrote."""
        self.bytes = 0
        """What they take, likewise."""
        self.evicted = 0
        self.expired = 0
        self.postponed = 0
        """Rows that were due and live on, having been rewritten."""
        self.corrupt = 0
        """Rows whose checksum did not fit."""
        self.untidy = 0
        """Times that pages could not be given back, or the log not be copied."""


class Totals:
    """Rows and bytes in the database, as a transaction changes them."""

    __slots__ = ("added", "before", "bytes", "entries")

    def __init__(self, entries: int, size: int) -> None:
        self.before = (entries, size)
        self.entries = entries
        self.bytes = size
        self.added = 0
        """Bytes that this transaction put in."""

    def add(self, size: int) -> None:
        """Count a row in."""
        self.entries += 1
        self.bytes += size
        self.added += size

    def take(self, size: object) -> None:
        """Count a row out."""
        self.entries -= 1
        self.bytes -= size if isinstance(size, int) else 0


class Room:
    """Keeps one database within its bounds. Called inside the transactions that write, and right after."""

    __slots__ = (
        "_counts", "_log", "_log_grew", "_max_bytes", "_most", "_page", "_paged", "_place", "_ranking",
        "_swept", "readings",
    )  # fmt: skip

    def __init__(self, place: Place, ranking: sql.Ranking, max_bytes: int, counts: Counts) -> None:
        self.readings = Readings()
        """What the rows have not been told yet."""
        self._swept = -(2**63)
        self._page = 0
        self._paged: sqlite3.Connection | None = None
        self._place = place
        self._ranking = ranking
        self._max_bytes = max_bytes
        self._most = max_bytes * 5 // 4 + _SLACK
        self._counts = counts
        self._log = min(max(max_bytes // 64, _LOG), _LONGEST_LOG)
        self._log_grew = self._log

    def forget(self) -> None:
        """Forget what is about a file: from now on it is another one."""
        # Not emptied: in the child of a fork the lock of the old ones may be held for ever.
        self.readings = Readings()
        self._paged = None

    def totals(self, connection: sqlite3.Connection) -> Totals:
        """Return the totals as they stand, counted anew where they are damaged."""
        entries, size = connection.execute(sql.TOTALS).fetchone() or (None, None)
        if not isinstance(entries, int) or not isinstance(size, int):
            entries, size = connection.execute(sql.RECOUNT).fetchone()
        return Totals(entries, size)

    def make(self, connection: sqlite3.Connection, totals: Totals, now: int) -> None:
        """Drop expired rows of a chunk that is due, then make room for what the transaction added, and write
        the totals.

        Where the database was far too large before (`max_bytes` was lowered), each transaction takes four
        chunks or twice what it added, so that none takes long.
        """
        due = self._expire(connection, totals, now)
        freed = chunks = fruitless = 0
        while self._over(connection, totals) and (freed < 2 * totals.added or chunks < 4):
            chunks += 1
            before = totals.bytes
            if due == sql.CHUNK and fruitless < _CHANCES:
                due = self._expire(connection, totals, now)
                fruitless = fruitless + 1 if totals.bytes == before else 0
            elif not self._evict(connection, totals, now, within=totals.bytes <= self._max_bytes):
                # No row is left: whatever the totals say, they are wrong.
                totals.entries, totals.bytes = connection.execute(sql.RECOUNT).fetchone()
                break
            freed += before - totals.bytes
        if (totals.entries, totals.bytes) != totals.before:
            if totals.entries < 0 or totals.bytes < 0:
                totals.entries, totals.bytes = connection.execute(sql.RECOUNT).fetchone()
            connection.execute(sql.SET_TOTALS, (totals.entries, totals.bytes))

    def _over(self, connection: sqlite3.Connection, totals: Totals) -> bool:
        if totals.bytes > self._max_bytes:
            return True
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        # Asked for, as a file may be older than the size that new ones get, and followed by another.
        if self._paged is not connection:
            (self._page,) = connection.execute("PRAGMA page_size").fetchone()
            self._paged = connection
        most = self._most // self._page
        if pages <= most:
            return False
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        return bool(pages - free > most)

    def _expire(self, connection: sqlite3.Connection, totals: Totals, now: int) -> int:
        """Look at one chunk of what is due; return how many rows that was."""
        due = batches.numbers(connection, sql.DUE, (now,))
        gone: list[int] = []
        postponed: list[int] = []
        for row, expires, size in due:
            assert row is not None
            # A damaged row may hold anything.
            if expires is not None and expires > now:
                postponed.append(row)
            else:
                gone.append(row)
                totals.take(size)
        if gone:
            batches.change(connection, sql.DROP, gone)
            self.readings.of(gone)
            self._counts.expired += len(gone)
        if postponed:
            batches.change(connection, sql.POSTPONE, postponed)
            self._counts.postponed += len(postponed)
        return len(due)

    def _evict(self, connection: sqlite3.Connection, totals: Totals, now: int, *, within: bool) -> bool:
        """Take one chunk; return whether there was one. *within*: pages are short, not bytes."""
        kept_in_a_row = 0
        while True:
            first = batches.numbers(connection, self._ranking.first)
            if not first:
                return False
            forced = kept_in_a_row >= _CHANCES * sql.CHUNK
            if not forced and (told := self._tell(connection, first)):
                kept_in_a_row += told
                continue
            excess = totals.bytes - self._max_bytes
            gone: list[int] = []
            spared: list[int] = []
            moved: list[int] = []
            for row, size, chance, has_moved, *_ in first:
                assert row is not None
                if not forced and has_moved:
                    moved.append(row)
                elif not forced and chance:
                    spared.append(row)
                # Where a row has moved, it may still come before those behind it.
                elif not moved and (within or excess > 0):
                    gone.append(row)
                    totals.take(size)
                    excess = totals.bytes - self._max_bytes
            if spared:
                batches.change(connection, self._ranking.chance, spared, now)
            if spared or moved:
                batches.change(connection, sql.PLACE, [*spared, *moved])
            if gone:
                batches.change(connection, sql.DROP, gone)
                self._counts.evicted += len(gone)
                return True
            kept_in_a_row += len(spared) + len(moved)

    def _tell(self, connection: sqlite3.Connection, rows: Sequence[tuple[int | None, ...]]) -> int:
        """Tell *rows*, which may go, how they were read; return how many did not know all of it."""
        read = self.readings.of([row for row, *_ in rows if row is not None])
        noted = [
            Reading(row, times, at or 0)
            for row, *_, times, at in rows
            if row is not None and times is not None
        ]
        batches.tell(connection, noted)
        batches.tell(connection, read)
        batches.change(connection, sql.UNNOTE, [row for row, _, _ in noted])
        return len(read) + len(noted)

    def note(self, connection: sqlite3.Connection, most: int) -> None:
        """Write about *most* readings down, and look among as many for those of rows no longer there."""
        read = self.readings.take(most)
        if not read:
            return
        if not self._ranking.rises:
            # What is read may go sooner for it, so the rows themselves must know.
            batches.tell(connection, read)
            return
        for start in range(0, len(read), sql.NOTED_AT_ONCE):
            some = read[start : start + sql.NOTED_AT_ONCE]
            some += [Reading(some[-1].row, 0, 0)] * (sql.NOTED_AT_ONCE - len(some))
            connection.execute(sql.NOTE_READS, [*chain.from_iterable(some)])
        (last,) = connection.execute(sql.SWEEP_TO, (self._swept, max(len(read) // 8, _SWEPT))).fetchone()
        if last is not None:
            connection.execute(sql.SWEEP, (self._swept, last))
        self._swept = -(2**63) if last is None else last

    def tidy(self, connection: sqlite3.Connection) -> None:
        """After a commit: give some free pages back, and copy the log where it has grown. Lock held.

        What fails here for want of room or a lock is counted, not raised: the commit stands.
        """
        try:
            self._tidy(connection)
        except sqlite3.OperationalError as error:
            self._counts.untidy += 1
            log.debug("%s: not tidied: %s", self._place.text, error)

    def _tidy(self, connection: sqlite3.Connection) -> None:
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        if free > 2 * _FREE:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            if free > pages // 8:
                # By execute it would free a single page: the module steps a statement once for its first row.
                connection.executescript(f"PRAGMA incremental_vacuum({_FREE})")
        try:
            size = os.stat(self._place.text + "-wal").st_size  # noqa: PTH116 - after every commit
        except FileNotFoundError:
            return
        if size < self._log:
            self._log_grew = self._log
        elif size >= self._log_grew:
            done = self.checkpoint(connection)
            # Readers of an old snapshot hold the log; it is tried again when it has grown as much again.
            self._log_grew = self._log if done else size + self._log

    def checkpoint(self, connection: sqlite3.Connection, patience: float = 0.0) -> bool:
        """Copy the log into the database and empty it; return whether all of it went. Lock held."""
        deadline = time.monotonic() + patience
        while True:
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.execute(f"PRAGMA busy_timeout = {int(self._place.patience * 1000)}")
            if not busy:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
