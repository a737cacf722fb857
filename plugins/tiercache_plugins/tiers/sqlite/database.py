"""Two connections to one file, one that reads and one that writes, and what is done when they fail."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from tiercache import Clock, TierError, TierRefused
from tiercache_plugins.tiers.sqlite.link import Link
from tiercache_plugins.tiers.sqlite.opening import (
    OLDEST,
    Foreign,
    prepare,
    refusal,
    says_corrupt,
    settle,
    suspicious,
)
from tiercache_plugins.tiers.sqlite.place import Place
from tiercache_plugins.tiers.sqlite.rows import Rows

log = logging.getLogger("tiercache.tier")

T = TypeVar("T")

_STRIKES: Final = 3
"""Times in a row that SQLite may call a file damaged before a check that denies it is overruled."""
_OPENINGS: Final = 3
"""Times that a file may be replaced while it is opened."""
_AGAIN: Final = 1.0
"""Seconds before a file that could not be opened anew is tried again."""
_OPENING: Final = 0.25
_CLOSING: Final = 1.0
"""Seconds of housekeeping."""


class _Moved(Exception):
    """Another file has the name by now, or none."""


class Database:
    """Calls functions of `Rows` in the thread of the connection they need, and keeps the two usable.

    Before each call the file's identity is compared with what is open: rows written to a file that was
    deleted, or put aside by another process, would be seen by nobody else.
    """

    def __init__(self, place: Place, clock: Clock, rows: Rows) -> None:
        self.errors = 0
        """Failures that no caller was told of."""
        self.recovered = 0
        """Damaged files that were put aside."""
        self._place = place
        self._clock = clock
        self._rows = rows
        self._reader: Link | None = None
        self._writer: Link | None = None
        self._changing = asyncio.Lock()
        self._pid = os.getpid()
        self._inherited: list[Link] = []
        # By what was wanted, a write or a read: a file may be damaged for one of them alone.
        self._strikes = {False: 0, True: 0}
        self._wanted = False
        self._again_at = 0.0

    async def open(self) -> None:
        """Open the file, made where it is missing. Raises TierRefused for one that is not ours."""
        if sqlite3.sqlite_version_info < OLDEST:
            raise TierRefused(
                f"SQLite {sqlite3.sqlite_version} has no RETURNING; "
                f"{'.'.join(map(str, OLDEST))} or later is accepted"
            )
        # A lock belongs to the loop that first waited for it, and a tier may be opened again in another.
        self._changing = asyncio.Lock()
        async with self._changing:
            await self._open()
        self._wanted = True

    async def close(self) -> None:
        """Note what waits, empty the log and close. Ends within a few seconds, whatever is under way."""
        if self._pid != os.getpid():
            self._leave_behind()
        self._wanted = False
        async with self._changing:
            if self._writer is not None:
                finishing = asyncio.ensure_future(self._writer.run(self._rows.finish, _CLOSING))
                await asyncio.wait([finishing], timeout=2 * _CLOSING)
                if not finishing.done():
                    finishing.cancel()
                elif error := finishing.exception():
                    self.errors += 1
                    log.info("%s: not tidied at close: %s", self._place.text, error)
            await self._disconnect()

    async def read(self, act: Callable[..., T], *arguments: Any) -> T:
        """Return `act(connection, *arguments)` from the connection that reads. Raises TierError."""
        return await self._do(True, act, *arguments)

    def read_soon(self, answered: Callable[[Any], object], act: Callable[..., Any], *arguments: Any) -> bool:
        """Begin what `read` does where the connection is there; call *answered* with what it brought, or with
        None where it failed: `read` knows what to do then. Return whether it was begun.
        """
        link = self._reader
        if link is None or self._changing.locked() or self._pid != os.getpid():
            return False

        def arrive(result: Any, error: BaseException | None) -> None:
            if error is None:
                self._strikes[True] = 0
            answered(result)

        return link.send(arrive, self._checked, link, act, *arguments)

    async def write(self, act: Callable[..., T], *arguments: Any) -> T:
        """Return `act(connection, *arguments)` from the connection that writes. Raises TierError."""
        return await self._do(False, act, *arguments)

    async def _do(self, reads: bool, act: Callable[..., T], *arguments: Any) -> T:
        if self._pid != os.getpid():
            self._leave_behind()
            await self.open()
        for attempt in (1, 2, 3):
            if self._changing.locked():
                async with self._changing:
                    pass
            link = self._reader if reads else self._writer
            if link is None:
                await asyncio.shield(asyncio.ensure_future(self._open_again()))
                continue
            try:
                result: T = await link.run(self._checked, link, act, *arguments)
            except _Moved:
                await asyncio.shield(asyncio.ensure_future(self._renew(link)))
                continue
            except TierError:
                raise
            except Exception as error:
                if link not in (self._reader, self._writer):
                    continue
                if attempt == 1 and suspicious(error):
                    # Shielded: half-way through there is no connection at all.
                    await asyncio.shield(asyncio.ensure_future(self._recover(link, error, reads=reads)))
                    continue
                raise TierError(f"{self._place.text}: {error}") from error
            self._strikes[reads] = 0
            return result
        raise TierError(f"{self._place.text}: the file is replaced again and again")

    def _checked(
        self, connection: sqlite3.Connection, link: Link, act: Callable[..., T], *arguments: Any
    ) -> T:
        if self._place.identity() != link.identity:
            raise _Moved
        return act(connection, *arguments)

    # Everything below is called with `_changing` held, or takes it.

    async def _open(self) -> None:
        try:
            ours = self._place.prepare()
            await self._connect(ours=ours)
        except (TierError, asyncio.CancelledError):
            self._again_at = time.monotonic() + _AGAIN
            await self._disconnect()
            raise
        except Exception as error:
            self._again_at = time.monotonic() + _AGAIN
            await self._disconnect()
            raise TierError(f"{self._place.text}: {error}") from error

    async def _connect(self, *, ours: bool) -> None:
        try:
            await self._link()
        except Foreign as foreign:
            # A flipped bit in the header makes ours look like another's: the lock file knows better.
            if not (ours and await self._put_aside(None, certain=foreign.ours)):
                raise refusal(self._place, foreign) from None
            await self._link()
        except Exception as error:
            if not suspicious(error):
                raise
            if not ours:
                raise refusal(self._place, f"it is no SQLite database, or damaged ({error})") from error
            if not await self._put_aside(None):
                raise
            await self._link()

    async def _link(self) -> None:
        for _ in range(_OPENINGS):
            before = self._place.identity()
            self._writer = writer = await Link.to(self._place.text, self._place.patience)
            if await writer.run(self._prepare, before):
                break
            await writer.close()
            self._place.prepare()
        else:
            raise TierError(f"{self._place.text}: the file is replaced again and again")
        writer.identity = before
        await writer.run(self._rows.tend, _OPENING)
        self._reader = reader = await Link.to(self._place.text, self._place.patience)
        await reader.run(_only_read)
        reader.identity = writer.identity
        self._pid = os.getpid()

    def _prepare(self, connection: sqlite3.Connection, before: tuple[int, int] | None) -> bool:
        with self._place.held():
            # Put aside by another process while we opened it: nobody would see what we write.
            if before is None or self._place.identity() != before:
                return False
            prepare(connection, self._rows.ranking)
            self._place.claim()
            return True

    async def _disconnect(self) -> None:
        # Without the lock file's lock: SQLite copies the log only where no other connection is left.
        self._place.shut = True
        links, self._reader, self._writer = (self._reader, self._writer), None, None
        for link in links:
            if link is not None and not await link.close():
                self.errors += 1
        self._place.release()

    async def _renew(self, link: Link) -> None:
        async with self._changing:
            if link in (self._reader, self._writer):
                self._rows.forget()
                await self._disconnect()
                await self._open()

    async def _open_again(self) -> None:
        """Open what was open and could not be opened anew, now and then."""
        async with self._changing:
            if self._reader is not None:
                return
            if not self._wanted or time.monotonic() < self._again_at:
                raise TierError(f"{self._place.text}: not open")
            await self._open()

    async def _recover(self, link: Link, error: Exception, *, reads: bool) -> None:
        """Judge the file and open it again, or a new one where it is damaged."""
        self._strikes[reads] += 1
        certain = says_corrupt(error) and self._strikes[reads] >= _STRIKES
        async with self._changing:
            if link not in (self._reader, self._writer):
                return
            if await self._put_aside(link.identity, certain=certain):
                self._rows.forget()
            await self._open()

    async def _put_aside(self, opened: tuple[int, int] | None, *, certain: bool = False) -> bool:
        """Put the file aside if it is damaged; return whether it was."""
        await self._disconnect()
        self._place.prepare()
        # A connection to memory lends its thread: the check of a large file takes seconds.
        link = await Link.to(":memory:", 0)
        try:
            aside = await link.run(
                lambda _: settle(self._place, opened, self._clock.micros(), certain=certain)
            )
        finally:
            await link.close()
        if aside:
            self.recovered += 1
            self._strikes = {False: 0, True: 0}
            self._place.prepare()
        return aside

    def _leave_behind(self) -> None:
        # In the child of a fork: the threads are gone, files and locks are the parent's.
        for link in (self._reader, self._writer):
            if link is not None:
                link.abandon()
                self._inherited.append(link)
        self._reader = self._writer = None
        self._place.release()
        self._rows.forget()
        self._changing = asyncio.Lock()
        self._pid = os.getpid()


def _only_read(connection: sqlite3.Connection) -> None:
    for statement in ("PRAGMA query_only = 1", "PRAGMA mmap_size = 0", "PRAGMA cache_size = -8192"):
        connection.execute(statement)
