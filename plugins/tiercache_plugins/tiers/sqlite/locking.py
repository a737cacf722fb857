"""Leases in a table beside the rows: lent to the processes of one host.

Their lives are counted by the host's wall clock, which all of them share. A fence is remembered longer than
the lease was held, so that it only rises; what has neither any more is dropped when others are taken.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple
from zlib import crc32

from tiercache import Claim, Clock
from tiercache_plugins.tiers.sqlite import statements as sql
from tiercache_plugins.tiers.sqlite.place import Place

_REMEMBERED: Final = 86_400_000_000
"""Microseconds for which the fence of a name is remembered."""
_TIDY: Final = 60_000_000
"""Microseconds between two looks at all rows for what may be forgotten."""
_HIGHEST: Final = 2**63 - 1


class Held(NamedTuple):
    """The row of a name."""

    token: bytes
    """Empty where nobody holds it."""
    expires: int
    fence: int
    kept: int


class Locking:
    """Lends and takes back: plain functions of a bare connection, each run whole in its thread."""

    __slots__ = ("_clock", "_place", "_tidied", "corrupt")

    def __init__(self, place: Place, clock: Clock) -> None:
        self.corrupt = 0
        """Leases that were found damaged, and taken for free."""
        self._place = place
        self._clock = clock
        self._tidied = 0

    @contextmanager
    def _writing(self, connection: sqlite3.Connection) -> Iterator[int]:
        with self._place.held():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._clock.micros()
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def acquire(self, connection: sqlite3.Connection, claims: Sequence[Claim]) -> list[int]:
        """Lend what is free, or held by the same token; return 0 or the fence of each."""
        answers: list[int] = []
        with self._writing(connection) as now:
            if abs(now - self._tidied) > _TIDY:
                self._tidied = now
                connection.execute(sql.UNLOCK_OVER, (now,))
            for claim in claims:
                name = claim.name.encode()
                row = connection.execute(sql.LOCK, (name,)).fetchone()
                held = _sound(name, row)
                self.corrupt += row is not None and held is None
                ours = held is not None and held.token == claim.token
                if held is not None and held.token and held.expires > now and not ours:
                    answers.append(0)
                    continue
                last = 0 if held is None else held.fence
                fence = last
                if claim.floor and not (ours and last):
                    fence = min(max(claim.floor, last + 1), _HIGHEST)
                kept = now + _REMEMBERED if claim.floor else 0 if held is None else held.kept
                _put(connection, name, Held(claim.token, _until(claim, now), fence, kept))
                answers.append(fence or 1)
        return answers

    def prolong(self, connection: sqlite3.Connection, claims: Sequence[Claim]) -> list[bool]:
        """Let what the tokens hold live on from now."""
        answers: list[bool] = []
        with self._writing(connection) as now:
            for claim in claims:
                name = claim.name.encode()
                held = _held(connection, name, now)
                ours = held is not None and held.token == claim.token
                if held is not None and ours:
                    _put(connection, name, held._replace(expires=_until(claim, now)))
                answers.append(ours)
        return answers

    def release(self, connection: sqlite3.Connection, claims: Sequence[Claim]) -> list[bool]:
        """End what the tokens hold."""
        with self._writing(connection) as now:
            return [end(connection, claim.name.encode(), claim.token, now) for claim in claims]

    def void(self, connection: sqlite3.Connection, names: Sequence[str]) -> list[bool]:
        """End leases, whoever holds them."""
        with self._writing(connection) as now:
            return [end(connection, name.encode(), None, now) for name in names]

    def wipe(self, connection: sqlite3.Connection, low: bytes, high: bytes) -> None:
        """End the leases whose names are from *low* to below *high*."""
        with self._writing(connection) as now:
            for (name,) in connection.execute(sql.LOCKED, (low, high)).fetchall():
                end(connection, name, None, now)


def end(connection: sqlite3.Connection, name: bytes, token: bytes | None, now: int) -> bool:
    """End the lease of *name* where *token* holds it, or whoever does for None; return whether it did.

    To be called within a transaction that writes.
    """
    held = _held(connection, name, now)
    if held is None or (token is not None and held.token != token):
        return False
    if held.kept > now:
        _put(connection, name, held._replace(token=b"", expires=0))
    else:
        connection.execute(sql.UNLOCK, (name,))
    return True


def _held(connection: sqlite3.Connection, name: bytes, now: int) -> Held | None:
    held = _sound(name, connection.execute(sql.LOCK, (name,)).fetchone())
    return held if held is not None and held.token and held.expires > now else None


def _put(connection: sqlite3.Connection, name: bytes, held: Held) -> None:
    connection.execute(sql.SET_LOCK, (name, *held, _checksum(name, held)))


def _until(claim: Claim, now: int) -> int:
    return now + max(1, int(claim.life * 1_000_000))


def _checksum(name: bytes, held: Held) -> int:
    numbers = b"%d %d %d" % (held.expires, held.fence, held.kept)
    return crc32(name, crc32(held.token, crc32(numbers)))


def _sound(name: bytes, row: tuple[object, ...] | None) -> Held | None:
    """Return *row* where it is whole. A damaged one may hold anything."""
    if row is None:
        return None
    token, expires, fence, kept, checksum = row
    if not (
        isinstance(token, bytes)
        and isinstance(expires, int)
        and isinstance(fence, int)
        and isinstance(kept, int)
    ):
        return None
    held = Held(token, expires, fence, kept)
    return held if checksum == _checksum(name, held) else None
