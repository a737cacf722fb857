"""How a SQLite tier tells of its changes: a row for each transaction, written by the transaction itself."""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple
from zlib import crc32

from tiercache import NEVER, Change, Undecodable
from tiercache_plugins.tiers.sqlite import statements as sql

_PRUNE: Final = 256
"""Transactions after which those that nobody follows any more are dropped."""


class Told(NamedTuple):
    """One transaction of somebody."""

    number: int
    sender: bytes
    namespace: bytes
    """Of markers; empty for keys."""
    items: bytes


class Voice:
    """Collects what a transaction changes. Used in the thread that writes."""

    __slots__ = ("_items", "sender")

    def __init__(self) -> None:
        self.sender = b""
        """Name of this process; without one nothing is told."""
        self._items: list[bytes] = []

    def note(self, name: bytes, stamp: int) -> None:
        """Take note that the key, or the marker, *name* changes."""
        if self.sender:
            self._items.append(len(name).to_bytes(2, "big") + name + min(stamp, NEVER).to_bytes(8, "big"))

    def tell(self, connection: sqlite3.Connection, namespace: bytes = b"") -> None:
        """Write down what was noted; *namespace* where it was markers."""
        if not self._items:
            return
        told = bytes((len(namespace),)) + namespace + b"".join(self._items)
        self._items.clear()
        number = connection.execute(sql.TELL, (self.sender, told, crc32(told, crc32(self.sender)))).lastrowid
        if number is not None and number % _PRUNE == 0:
            connection.execute(sql.UNTELL, (number,))

    def forget(self) -> None:
        """Forget what was noted: the transaction is undone."""
        self._items.clear()


def parsed(number: object, sender: object, told: object, checksum: object) -> Told:
    """Return a row taken apart. Raises Undecodable."""
    if (
        not isinstance(number, int)
        or not isinstance(sender, bytes)
        or not isinstance(told, bytes)
        or not told
        or checksum != crc32(told, crc32(sender))
    ):
        raise Undecodable("a change is damaged")
    end = 1 + told[0]
    return Told(number, sender, told[1:end], told[end:])


def changes(items: bytes) -> list[Change]:
    """Return the changes, or the markers, of a transaction. Raises Undecodable."""
    found: list[Change] = []
    at = 0
    while at < len(items):
        start = at + 2
        end = start + int.from_bytes(items[at:start], "big")
        try:
            found.append(Change(items[start:end].decode(), int.from_bytes(items[end : end + 8], "big")))
        except UnicodeDecodeError as error:
            raise Undecodable("a change names no key") from error
        at = end + 8
    return found
