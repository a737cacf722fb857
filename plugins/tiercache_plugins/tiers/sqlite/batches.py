"""Many rows in few statements.

Each step of a statement gives Python's lock away and waits to have it back: that is nothing where nobody else
wants it, and some 5 ms for each thread that computes. With a statement, or an answered row, for each of 64
keys, a batch took two to seven seconds beside six such threads, and was given up as too late.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from time import perf_counter
from typing import Any, Final, NamedTuple

from tiercache_plugins.tiers.sqlite import lists
from tiercache_plugins.tiers.sqlite import statements as sql
from tiercache_plugins.tiers.sqlite.readings import Reading

_FEW: Final = 8
"""Rows after which a look is taken at how long they took."""
_SLOW: Final = 0.002
"""Seconds a step that only a wait for Python's lock takes, or a very slow device."""
_LARGE: Final = 2**14
"""Bytes of a frame that is read and stored by itself: a statement keeps what was bound to it until the next,
and an answer in one row holds all its frames at once.
"""


def parts(keys: Sequence[bytes]) -> Iterator[list[bytes | None]]:
    """Yield *keys* in lists that there is a statement for; the last is filled up."""
    for start in range(0, len(keys), lists.LISTS[-1]):
        yield _filled(keys[start : start + lists.LISTS[-1]], lists.LISTS, lists.FILLER)


def _filled(some: Sequence[Any], lengths: Sequence[int], filler: Any) -> list[Any]:
    return [*some, *[filler] * (lengths[bisect_left(lengths, len(some))] - len(some))]


def change(
    connection: sqlite3.Connection, statements: Mapping[int, str], rows: Sequence[int], now: int = 0
) -> None:
    """Change *rows*, by their ids."""
    most = lists.AT_ONCE[-1]
    for start in range(0, len(rows), most):
        # No row has NULL for its id.
        some = _filled(rows[start : start + most], lists.AT_ONCE, None)
        named = {f"row{n}": row for n, row in enumerate(some)}
        connection.execute(statements[len(some)], {"now": now, **named})


def tell(connection: sqlite3.Connection, read: Sequence[Reading]) -> None:
    """Tell rows how they were *read*; each stands there once."""
    most = lists.AT_ONCE[-1]
    for start in range(0, len(read), most):
        some = _filled(read[start : start + most], lists.AT_ONCE, (None, 0, 0))
        told = chain.from_iterable((row, times, at) for row, times, at in some)
        connection.execute(sql.NOTE[len(some)], [*told])


def numbers(
    connection: sqlite3.Connection, statement: str, parameters: Sequence[Any] = ()
) -> list[tuple[int | None, ...]]:
    """Return the rows of a statement made by `lists.numbers`; None for what is no whole number."""
    (text,) = connection.execute(statement, parameters).fetchone()
    if not text:
        return []
    return [
        tuple([int(number) if number else None for number in row.split(b",")]) for row in text.split(b";")
    ]


class Finder:
    """Looks for the rows of keys. Used in one thread.

    A row for each key that is found is the quicker way by a quarter, as long as no step has to wait.
    """

    __slots__ = ("_finding", "waits")

    def __init__(self, finding: lists.Finding) -> None:
        self._finding = finding
        self.waits = False
        """Whether steps had to wait the last time."""

    def find(self, connection: sqlite3.Connection, part: list[bytes | None]) -> Iterable[tuple[Any, ...]]:
        """Return the place in *part*, a list of `parts`, and the columns of each row that is found.

        They are read as they are looked at, as rows may be large: before anything else is asked for.
        """
        if len(part) == 1:
            return connection.execute(self._finding.long[1], part)
        if not self.waits:
            began = perf_counter()
            cursor = connection.execute(self._finding.long[len(part)], part)
            found = cursor.fetchmany(_FEW)
            # Large frames take as long without anybody who computes.
            self.waits = perf_counter() - began > _SLOW * (len(found) + 1) and not any(map(_large, found))
            if len(found) < _FEW:
                return found
            if not self.waits:
                return chain(found, cursor)
            cursor.close()
        return self._widely(connection, part)

    def _widely(self, connection: sqlite3.Connection, part: list[bytes | None]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(part), lists.WIDEST[-1]):
            some = part[start : start + lists.WIDEST[-1]]
            if some[0] is lists.FILLER:
                return
            began = perf_counter()
            (beside,) = connection.execute(self._finding.wide[len(some)], some).fetchall()
            # One step to the row, and one to the end.
            self.waits = perf_counter() - began > _SLOW * 2 and not _large(beside)
            for place, row in enumerate(zip(*[iter(beside)] * self._finding.width, strict=True), start):
                if row[0] is not None:
                    yield (place, *row)


def _large(row: tuple[Any, ...]) -> bool:
    return any(isinstance(column, bytes) and len(column) > _LARGE for column in row)


class Saved(NamedTuple):
    """A row that is to be stored."""

    key: bytes
    expires: int
    size: int
    checksum: int
    frame: bytes


class Saves:
    """The rows that a transaction stores, kept until there are many, or somebody has to know of them."""

    __slots__ = ("_connection", "_gone", "_now", "_sooner", "_usual")

    def __init__(self, connection: sqlite3.Connection, now: int) -> None:
        self._connection = connection
        self._now = now
        self._gone: list[int] = []
        self._usual: list[tuple[int | None, Saved]] = []
        self._sooner: list[tuple[int | None, Saved]] = []

    def add(self, row: int | None, saved: Saved, *, sooner: bool = False) -> None:
        """Store *saved* in *row*, or in a new one. *sooner*: it expires before it was to be looked at."""
        if len(saved.frame) > _LARGE:
            self._clear()
            self._one(row, saved, sql.REWRITE_SOONER if sooner else sql.REWRITE)
        else:
            (self._sooner if sooner else self._usual).append((row, saved))

    def drop(self, row: int) -> None:
        """Drop *row*, before anything is stored."""
        self._gone.append(row)

    def flush(self) -> None:
        """Do all that until now."""
        self._clear()
        if self._usual:
            self._store(self._usual, sql.SAVE, sql.REWRITE)
            self._usual = []
        if self._sooner:
            self._store(self._sooner, sql.SAVE_SOONER, sql.REWRITE_SOONER)
            self._sooner = []

    def _clear(self) -> None:
        if self._gone:
            change(self._connection, sql.DROP, self._gone)
            self._gone = []

    def _store(
        self, waiting: list[tuple[int | None, Saved]], several: Mapping[int, str], rewrite: str
    ) -> None:
        while waiting:
            length = lists.AT_ONCE[bisect_right(lists.AT_ONCE, len(waiting)) - 1]
            if length == 1:
                for row, saved in waiting:
                    self._one(row, saved, rewrite)
                return
            listed = chain.from_iterable([saved for _, saved in waiting[:length]])
            self._connection.execute(several[length], [self._now, *listed])
            del waiting[:length]

    def _one(self, row: int | None, saved: Saved, rewrite: str) -> None:
        key, expires, size, checksum, frame = saved
        if row is None:
            self._connection.execute(sql.INSERT, (key, expires, self._now, size, checksum, frame))
        else:
            self._connection.execute(rewrite, (expires, self._now, size, checksum, frame, row))
