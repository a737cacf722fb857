"""One connection and its thread: the only place that knows how aiosqlite works inside."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    import aiosqlite

T = TypeVar("T")

GRACE: Final = 1.0
"""Seconds that a statement under way has to end by itself when the link is closed."""


class Link:
    """A connection in a thread of its own, which takes whole functions.

    aiosqlite hops to its thread for each statement; a batch of twenty would hop twenty times, at 30 µs each
    and with the transaction open meanwhile. A function given the bare connection hops once.
    """

    __slots__ = ("_connection", "identity", "raw")

    def __init__(self, connection: aiosqlite.Connection, raw: sqlite3.Connection) -> None:
        self._connection: Any = connection
        # A damaged row may hold text that is not UTF-8, which would fail the whole statement.
        raw.text_factory = bytes
        self.raw = raw
        """The bare connection; `interrupt` alone may be called from other threads."""
        self.identity: tuple[int, int] | None = None
        """The file that is open, whatever has its name by now."""

    @classmethod
    async def to(cls, path: str, patience: float) -> Link:
        """Return a link to the database *path*, waiting *patience* seconds where it is locked."""
        import aiosqlite

        connecting = aiosqlite.connect(
            path, isolation_level=None, timeout=patience, cached_statements=64, check_same_thread=False
        )
        _let_die(connecting)
        connection = await connecting
        return cls(connection, _bare(connection))

    async def run(self, act: Callable[..., T], *arguments: Any) -> T:
        """Return `act(bare connection, *arguments)`, called in the thread."""
        return await _in_thread(self._connection, act, self.raw, *arguments)

    async def close(self) -> bool:
        """Close the connection; interrupt what is under way, and leave the thread to its fate where that
        does not help. Return whether it went well.
        """
        closing = asyncio.ensure_future(self.run(sqlite3.Connection.close))
        await asyncio.wait([closing], timeout=GRACE)
        if not closing.done():
            self.raw.interrupt()
            await asyncio.wait([closing], timeout=GRACE)
        if not closing.done():
            closing.cancel()
            self.abandon()
            return False
        await self._connection.close()
        return closing.exception() is None

    def abandon(self) -> None:
        """Forget the thread: it is stuck, or stayed in the parent of a fork.

        The bare connection stays referenced by the link. In a child it must never be closed: that would
        act on locks and files that are the parent's.
        """
        self._connection._connection = None  # noqa: SLF001 - keeps its finaliser from closing what isn't ours


def _let_die(connection: Any) -> None:
    # A thread that is not a daemon is joined at exit, and a connection that nobody closed keeps it waiting
    # for ever. Before 0.22 the connection was the thread itself.
    getattr(connection, "_thread", connection).daemon = True


def _bare(connection: Any) -> sqlite3.Connection:
    bare = connection._conn  # noqa: SLF001 - no public name
    assert isinstance(bare, sqlite3.Connection)
    return bare


async def _in_thread(connection: Any, act: Callable[..., T], *arguments: Any) -> T:
    result: T = await connection._execute(act, *arguments)  # noqa: SLF001 - no public name
    return result
