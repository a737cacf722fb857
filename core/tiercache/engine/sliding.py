"""Lives that reads lengthen, under an end that they can't move.

Of an entry that slides, a read is noted that comes a quarter of the window or more after the last one that
was; what comes sooner changes nothing. So near hits cost what they always do, a key's life is written at most
four times a window, and an entry that is read at intervals shorter than three quarters of the window stays.
One that nobody reads for a whole window is gone, and so is every one at its end, in every tier.

Where there are far tiers, a near copy lives for that quarter and the next read asks them; what it finds says
when the last noted read was. Where there are none, the near entry itself is let go on, by the slow path.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from tiercache.contracts import Record
from tiercache.engine.far import Far
from tiercache.engine.flights import Found
from tiercache.engine.guard import FRAMES, answers
from tiercache.engine.tasks import begin
from tiercache.entry import Entry
from tiercache.errors import Undecodable
from tiercache.frame import TOMBSTONE, restamped, stamp_of

if TYPE_CHECKING:
    from tiercache.engine.pipeline import Route

SHARE: Final = 4
"""Parts of a window of which reads are noted once."""
ATTEMPTS: Final = 4
"""Rounds of compare and set before a read that was noted is given up."""
CHUNK: Final = 256
"""Keys whose far copies are looked at together."""


class Slides:
    """The noted reads of one route."""

    __slots__ = ("_asked", "_ends", "_loop", "_pending", "_route", "_task", "pause", "rest", "window")

    def __init__(self, route: Route, window: float) -> None:
        self.window = window
        """Seconds for which an entry lives that nobody reads."""
        self.pause = window / SHARE
        """Seconds after a noted read during which no other is."""
        self.rest = window - self.pause
        self._route = route
        self._ends: dict[str, tuple[int, float]] = {}
        self._asked: set[str] = set()
        self._pending: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    # Far tiers

    def noted(self, key: str, found: Found) -> Found:
        """Take note that *found*, of a far tier, is being read; return it with the life that it has now."""
        now = self._route.clock.micros()
        lived = found.fresh_until - now
        if found.fresh_until >= found.end or lived > int(self.rest * 1_000_000):
            return found
        self._pending[key] = now
        if self._task is None:
            self._task = begin(self._lengthen(), "tiercache-slide")
            self._route.flights.running.add(self._task)
            self._task.add_done_callback(self._route.flights.running.discard)
        until = self._until(found.end, now)
        return found._replace(fresh_until=until, stale_until=until)

    def left(self, found: Found, remaining: float) -> float:
        """Return for how long a near copy of *found* is good, which has *remaining* seconds to live."""
        return remaining if found.fresh_until >= found.end else min(remaining - self.rest, self.pause)

    def _until(self, end: int, read: int) -> int:
        return min(end, read + int(self.window * 1_000_000))

    async def _lengthen(self) -> None:
        """Write the lives of what was read to the far tiers, until there is nothing left to write."""
        try:
            while self._pending:
                chunk = dict(islice(self._pending.items(), CHUNK))
                for key in chunk:
                    del self._pending[key]
                for far in self._route.fars:
                    await self._tell(far, chunk)
        finally:
            self._task = None

    async def _tell(self, far: Far, read: dict[str, int]) -> None:
        if far.swap is None:
            # In one turn: a delete that leaves no trace must not come in between.
            await far.writes.call(partial(self._write, far, read))
            return
        for _ in range(ATTEMPTS):
            addresses = [self._route.address(key) for key in read]
            frames = await far.writes.call(partial(answers, far.guard.tier.read, addresses, FRAMES))
            swaps = [
                (key, far.writes.call(partial(far.swap, record, record.stamp - 1), record.key))
                for key, record in self._records(far, read, frames or ())
            ]
            # Changed meanwhile, perhaps by a read that was noted elsewhere: look again.
            read = {key: read[key] for key, swapped in swaps if await swapped is False}
            if not read:
                return

    async def _write(self, far: Far, read: dict[str, int]) -> bool:
        addresses = [self._route.address(key) for key in read]
        frames = await answers(far.guard.tier.read, addresses, FRAMES)
        records = [record for _, record in self._records(far, read, frames)]
        if records:
            await far.guard.tier.write(records)
        return True

    def _records(
        self, far: Far, read: dict[str, int], frames: Sequence[bytes | None]
    ) -> list[tuple[str, Record]]:
        """Return what must be stored so that the copies in *far*, its *frames*, live as long as was read."""
        records = []
        for (key, at), frame in zip(read.items(), frames, strict=False):
            address = self._route.address(key)
            if frame is None or far.recovery.hides(address):
                continue
            try:
                record = self._record(far, address, frame, at)
            except Undecodable:
                far.guard.counts.corrupt += 1
                continue
            if record is not None:
                records.append((key, record))
        return records

    def _record(self, far: Far, address: str, frame: bytes, at: int) -> Record | None:
        head = self._route.head(far, address.encode(), frame)
        if head.flags & TOMBSTONE or not head.end:
            return None
        until = self._until(head.end, at)
        if until <= head.fresh_until or self._route.clock.micros() >= head.fresh_until:
            return None
        lived = self._route.decoder.relived(address.encode(), frame, head, until, until, head.end)
        # One more than it was: above what was read, and below all that is stored by others meanwhile.
        return far.record(address, restamped(lived, stamp_of(frame) + 1), until, conditional=True)

    # Near tiers that stand alone

    def place(self, key: str, value: Any, created_at: int, ttl: float, tags: Sequence[str]) -> None:
        """Put an entry that ends in *ttl* seconds at the latest into the near tier, as if just read."""
        self._loop = asyncio.get_running_loop()
        now = self._route.clock.monotonic()
        self._arm(key, value, created_at, now + ttl, tags, now)

    def end(self, entry: Entry) -> float:
        """Return when *entry* ends at the latest, in seconds of the monotonic clock."""
        created_at, end = self._ends.get(entry.key, (0, 0.0))
        return end if created_at == entry.created_at else entry.fresh_until + entry.terms.ahead

    def late(self, entry: Entry) -> None:
        """Let *entry* live on, as it is being read at a time when that is noted. Called from any thread."""
        loop, now = self._loop, self._route.clock.monotonic()
        with contextlib.suppress(RuntimeError):
            if asyncio.get_running_loop() is loop:
                self._renew(entry.key, entry.created_at, now)
                return
        if loop is not None and entry.key not in self._asked:
            self._asked.add(entry.key)
            # Near tiers are written on the loop alone. Where it was closed, so was the cache.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._renew, entry.key, entry.created_at, now)

    def _renew(self, key: str, created_at: int, read: float) -> None:
        self._asked.discard(key)
        near = self._route.near
        entry = near.get(key) if near is not None else None
        row = self._ends.get(key)
        if near is None or entry is None or row is None:
            return
        fresh = entry.fresh_until <= read < entry.fresh_until + entry.terms.ahead
        if fresh and entry.created_at == created_at == row[0]:
            self._arm(key, entry.value, created_at, row[1], tuple(near.tags(key)), read)

    def _arm(
        self, key: str, value: Any, created_at: int, end: float, tags: Sequence[str], read: float
    ) -> None:
        now = self._route.clock.monotonic()
        self._ends.pop(key, None)
        if end - read <= self.window:
            self._route.keeping.put(key, value, created_at, end - now, 0.0, 0.0, tags)
            return
        self._ends[key] = (created_at, end)
        pause = read + self.pause - now
        self._route.keeping.put(key, value, created_at, pause, self.rest, self.rest, tags)
        self._look_after(2)

    def _look_after(self, count: int) -> None:
        """Forget the ends of entries that are gone: as many are looked at as come, so they stay few."""
        near = self._route.near
        for key in list(islice(self._ends, count)):
            row = self._ends.pop(key)
            entry = near.get(key) if near is not None else None
            if entry is not None and entry.created_at == row[0]:
                self._ends[key] = row
