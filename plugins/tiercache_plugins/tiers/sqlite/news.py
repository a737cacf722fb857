"""The bus of a SQLite tier: follows the table of changes."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tiercache import Listener, TierError, Undecodable
from tiercache_plugins.tiers.sqlite import statements as sql
from tiercache_plugins.tiers.sqlite.voice import changes, parsed

if TYPE_CHECKING:
    from tiercache_plugins.tiers.sqlite.tier import SqliteTier

LOOKS: Final = 8
"""Looks a lease, at least."""


class _Look(NamedTuple):
    file: object
    """Name of the file."""
    first: int
    """Number of the oldest change that is kept; 0 for none."""
    last: int
    rows: list[tuple[Any, ...]]


class SqliteBus:
    """Follows one `SqliteTier`."""

    def __init__(self, tier: SqliteTier, name: str, poll: float) -> None:
        self._tier = tier
        self._name = name
        self._poll = poll
        self._sender = os.urandom(8)
        tier.announce(self._sender)
        self._file: object = None
        self._position = 0
        # Of the connection that was asked: the number means nothing to another one.
        self._version: tuple[sqlite3.Connection, int] | None = None

    async def follow(self, listener: Listener) -> None:
        """Look every while, until cancelled or the file can't be read."""
        pause = min(self._poll, listener.lease / LOOKS)
        while True:
            began = listener.now()
            look = await self._tier.ask(self._look, self._position)
            if look is None or self._heard(look, listener):
                listener.confirmed(began)
                await asyncio.sleep(pause)

    async def close(self) -> None:
        """Nothing is kept open."""

    def _look(self, connection: sqlite3.Connection, position: int) -> _Look | None:
        """Return what is new behind *position*; None where nobody has written."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if self._version is not None and self._version[0] is connection and self._version[1] == version:
            return None
        # Before the rows: what is written in between is found by the next look.
        self._version = None
        file, first, last = connection.execute(sql.FIRST_AND_LAST).fetchone()
        rows = connection.execute(sql.TOLD, (position,)).fetchall()
        if len(rows) < sql.TOLD_AT_ONCE:
            self._version = connection, version
        return _Look(file, first or 0, last or 0, rows)

    def _heard(self, look: _Look, listener: Listener) -> bool:
        """Tell what *look* found; return whether that was all."""
        if look.file is None:
            raise TierError(f'bus "{self._name}": the file has no table of changes')
        if look.file != self._file or look.last < self._position or look.first > self._position + 1:
            # Another file, or more was changed than is kept.
            self._file, self._position = look.file, look.last
            listener.lost()
            return False
        for row in look.rows:
            try:
                told = parsed(*row)
                news = changes(told.items)
            except Undecodable:
                listener.lost()
                continue
            if told.sender == self._sender:
                continue
            if not told.namespace:
                listener.changed(news)
            elif told.namespace == self._tier.namespace:
                listener.marked(dict(news))
        if look.rows:
            self._position = look.rows[-1][0]
        return len(look.rows) < sql.TOLD_AT_ONCE
