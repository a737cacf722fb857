"""The markers of one namespace, and the kernel's notes, in tables beside the rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final
from zlib import crc32

from tiercache import Clock
from tiercache_plugins.tiers.sqlite import statements as sql
from tiercache_plugins.tiers.sqlite.place import Place
from tiercache_plugins.tiers.sqlite.voice import Voice

_DAMAGED: Final = "damaged"
"""Stands for a marker that can't be read any more; the kernel takes it for one of everything."""


class Marking:
    """Reads and raises markers: plain functions of a bare connection, each run whole in its thread."""

    __slots__ = ("_clock", "_namespace", "_place", "_voice", "corrupt")

    def __init__(self, place: Place, clock: Clock, namespace: str, voice: Voice) -> None:
        self._voice = voice
        self.corrupt = 0
        """Markers that were found damaged."""
        self._place = place
        self._clock = clock
        self._namespace = namespace.encode()

    @contextmanager
    def _writing(self, connection: sqlite3.Connection) -> Iterator[None]:
        with self._place.held():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._voice.tell(connection, self._namespace)
                connection.execute("COMMIT")
            except BaseException:
                self._voice.forget()
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def read(self, connection: sqlite3.Connection) -> dict[str, int]:
        """Return all markers."""
        markers: dict[str, int] = {}
        damaged: list[object] = []
        for name, stamp, checksum in connection.execute(sql.MARKED, (self._namespace,)).fetchall():
            if self._sound(name, stamp, checksum):
                markers[name.decode()] = stamp
            else:
                damaged.append(name)
        if damaged:
            self.corrupt += len(damaged)
            markers[_DAMAGED] = self._clock.micros()
            with self._writing(connection):
                # First what stands for them, so that whoever reads next is told, too.
                self._put(connection, _DAMAGED.encode(), markers[_DAMAGED])
                connection.executemany(sql.UNMARK, [(self._namespace, name) for name in damaged])
        return markers

    def write(self, connection: sqlite3.Connection, markers: Mapping[str, int], below: int) -> None:
        """Raise *markers*; then drop those lower than *below*."""
        with self._writing(connection):
            connection.execute(sql.RAISE, (self._namespace,))
            for name, stamp in markers.items():
                key = name.encode()
                standing = connection.execute(sql.STANDING_MARK, (self._namespace, key)).fetchone()
                if standing is None or not self._sound(key, *standing) or standing[0] < stamp:
                    self._put(connection, key, stamp)
            if below:
                connection.execute(sql.UNMARK_BELOW, (self._namespace, below))

    def heads(self, connection: sqlite3.Connection, keys: Sequence[str]) -> tuple[int, list[bytes | None]]:
        """Return how often markers rose, and the first bytes of the frame of each key."""
        now = self._clock.micros()
        connection.execute("BEGIN")
        try:
            raised = connection.execute(sql.RAISED, (self._namespace,)).fetchone()
            found = [connection.execute(sql.HEAD, (key.encode(), now)).fetchone() for key in keys]
        finally:
            connection.execute("COMMIT")
        count = raised[0] if raised is not None and isinstance(raised[0], int) else 0
        return count, [row[0] if row is not None and isinstance(row[0], bytes) else None for row in found]

    def remember(self, connection: sqlite3.Connection, name: bytes, note: bytes) -> None:
        """Keep *note* in place of what was kept under *name*."""
        checksum = crc32(note, crc32(name, crc32(self._namespace)))
        with self._writing(connection):
            connection.execute(sql.REMEMBER, (self._namespace, name, note, checksum))

    def recall(self, connection: sqlite3.Connection, name: bytes) -> bytes | None:
        """Return what is kept under *name*; an empty note, which fits nothing, where it is damaged."""
        standing = connection.execute(sql.RECALL, (self._namespace, name)).fetchone()
        if standing is None:
            return None
        note, checksum = standing
        sound = isinstance(note, bytes) and checksum == crc32(note, crc32(name, crc32(self._namespace)))
        return note if sound else b""

    def _put(self, connection: sqlite3.Connection, name: bytes, stamp: int) -> None:
        connection.execute(sql.MARK, (self._namespace, name, stamp, self._checksum(name, stamp)))
        self._voice.note(name, stamp)

    def _checksum(self, name: bytes, stamp: int) -> int:
        return crc32(name, crc32(self._namespace, crc32(stamp.to_bytes(8))))

    def _sound(self, name: object, stamp: object, checksum: object) -> bool:
        return (
            isinstance(name, bytes)
            and isinstance(stamp, int)
            and 0 <= stamp < 2**63
            and checksum == self._checksum(name, stamp)
        )
