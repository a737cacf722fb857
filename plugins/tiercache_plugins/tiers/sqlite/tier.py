"""The tier: what the kernel calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from tiercache import Claim, Clock, Diagnosis, Order, Record, TierError
from tiercache_plugins.tiers.sqlite.database import Database
from tiercache_plugins.tiers.sqlite.diagnosis import diagnose
from tiercache_plugins.tiers.sqlite.locking import Locking
from tiercache_plugins.tiers.sqlite.marking import Marking
from tiercache_plugins.tiers.sqlite.place import Place
from tiercache_plugins.tiers.sqlite.rows import NOTED, Rows
from tiercache_plugins.tiers.sqlite.voice import Voice

log = logging.getLogger("tiercache.tier")

T = TypeVar("T")

_SHORT: Final = 1.0
"""Seconds between two notes of reads at least."""
_LONG: Final = 30.0
"""Seconds after which reads are noted, however few: other processes that make room know of them from then on,
and they are lost with a process that is killed before. Longer, more of them share a page.
"""


class SqliteTier:
    """A far tier in one SQLite file (a `tiercache.FarTier` with every ability)."""

    def __init__(
        self, path: Path, clock: Clock, order: Order, *, namespace: str, max_bytes: int, patience: float
    ) -> None:
        place = Place(path, patience)
        self._path = path
        self._max_bytes = max_bytes
        self._clock = clock
        self._voice = Voice()
        self._rows = Rows(place, clock, order, max_bytes, self._voice)
        self._database = Database(place, clock, self._rows)
        self._marking = Marking(place, clock, namespace, self._voice)
        self._locking = Locking(place, clock)
        self.namespace = namespace.encode()
        """Whose markers are kept here."""
        self._noting: asyncio.Task[None] | None = None
        self._noted_at = 0.0

    def announce(self, sender: bytes) -> None:
        """Write down every change from now on, in the name of *sender*."""
        self._voice.sender = sender

    async def ask(self, act: Callable[..., T], *arguments: Any) -> T:
        """Return `act(connection, *arguments)` from the connection that reads. Raises TierError."""
        return await self._database.read(act, *arguments)

    async def open(self) -> None:
        """Open the file, made where it is missing. Raises TierRefused for one that is not a cache's."""
        await self._database.open()
        self._noted_at = self._clock.monotonic()

    async def close(self) -> None:
        """Note what waits, empty the log and close. Ends within a few seconds, whatever is under way."""
        if self._noting is not None:
            self._noting.cancel()
        await self._database.close()

    async def read(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Return the frame of each key."""
        frames = await self._database.read(self._rows.read, keys) if keys else []
        self._note_in_time()
        return frames

    def read_soon(
        self, keys: Sequence[str], answered: Callable[[Sequence[bytes | None] | None], object]
    ) -> bool:
        """Begin what `read` does, where the file is open."""
        self._note_in_time()
        return self._database.read_soon(answered, self._rows.read, keys)

    def _note_in_time(self) -> None:
        if self._noting is not None:
            return
        now = self._clock.monotonic()
        since = now - self._noted_at
        if since > _LONG or (since > _SHORT and self._rows.pressing):
            self._noted_at = now
            self._noting = asyncio.ensure_future(self._note())

    async def _note(self) -> None:
        try:
            # As many turns as there are rows now: others are read meanwhile.
            for _ in range(0, self._rows.waiting, NOTED):
                await self._database.write(self._rows.note)
        except TierError as error:
            self._database.errors += 1
            log.debug("reads were not noted: %s", error)
        finally:
            self._noting = None

    async def write(self, records: Sequence[Record]) -> Sequence[int]:
        """Store *records* in one transaction."""
        return await self._database.write(self._rows.write, records) if records else []

    async def delete(self, keys: Sequence[str]) -> Sequence[bool]:
        """Drop *keys* in one transaction."""
        return await self._database.write(self._rows.delete, keys) if keys else []

    async def scan(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        """Yield the keys that begin with *prefix*, in their order."""
        low, high = _range(prefix)
        start: bytes | None = low
        while start is not None:
            keys, start = await self._database.read(self._rows.page, start, high)
            if keys:
                yield keys

    async def wipe(self, prefix: str) -> None:
        """Drop every key that begins with *prefix*, in chunks between which others get their turn."""
        low, high = _range(prefix)
        while await self._database.write(self._rows.wipe, low, high):
            pass
        await self._database.write(self._locking.wipe, low, high)

    async def swap(self, record: Record, expected: int | None) -> bool:
        """Store *record* where the stamp is *expected*."""
        return await self._database.write(self._rows.swap, record, expected)

    async def increment(self, record: Record, delta: int) -> bytes:
        """Add *delta* to a counter."""
        result = await self._database.write(self._rows.increment, record, delta)
        if isinstance(result, Exception):
            raise result
        return result

    async def marks(self) -> Mapping[str, int]:
        """Return all markers of the namespace."""
        return await self._database.write(self._marking.read)

    async def mark(self, markers: Mapping[str, int], below: int) -> None:
        """Raise *markers* and drop those lower than *below*, in one transaction."""
        await self._database.write(self._marking.write, markers, below)

    async def heads(self, keys: Sequence[str]) -> tuple[int, Sequence[bytes | None]]:
        """Return how often markers rose, and the first bytes of each frame."""
        return await self._database.read(self._marking.heads, keys)

    async def remember(self, name: str, note: bytes) -> None:
        """Keep *note* under *name*."""
        await self._database.write(self._marking.remember, name.encode(), note)

    async def recall(self, name: str) -> bytes | None:
        """Return the note under *name*."""
        return await self._database.write(self._marking.recall, name.encode())

    async def diagnose(self) -> Iterable[Diagnosis]:
        """Look at SQLite's version, the journal, the file system, permissions and room."""
        return await self._database.read(diagnose, self._path, self._max_bytes)

    def semantics(self, act: str) -> Mapping[str, str | int]:
        """Return what OpenTelemetry calls a statement on this file."""
        verbs = {"read": "SELECT", "delete": "DELETE", "marks": "SELECT"}
        return {"db.system.name": "sqlite", "db.operation.name": verbs.get(act, "INSERT")}

    async def acquire(self, claims: Sequence[Claim]) -> Sequence[int]:
        """Lend names in one transaction. Lives are counted by the host's clock."""
        return await self._database.write(self._locking.acquire, claims) if claims else []

    async def prolong(self, claims: Sequence[Claim]) -> Sequence[bool]:
        """Prolong what the tokens hold, in one transaction."""
        return await self._database.write(self._locking.prolong, claims) if claims else []

    async def release(self, claims: Sequence[Claim]) -> Sequence[bool]:
        """End what the tokens hold, in one transaction."""
        return await self._database.write(self._locking.release, claims) if claims else []

    async def void(self, names: Sequence[str]) -> Sequence[bool]:
        """End leases, whoever holds them, in one transaction."""
        return await self._database.write(self._locking.void, names) if names else []

    def stats(self) -> Mapping[str, int]:
        """Return rows and bytes as of the last write here, and what happened since the tier was opened."""
        counts = self._rows.counts
        return {
            "entries": counts.entries,
            "bytes": counts.bytes,
            "evicted": counts.evicted,
            "expired": counts.expired,
            "corrupt": counts.corrupt + self._marking.corrupt + self._locking.corrupt,
            "recovered": self._database.recovered,
            "errors_untold": self._database.errors + counts.untidy,
        }


def _range(prefix: str) -> tuple[bytes, bytes]:
    """Return the first key that may begin with *prefix*, and one above all that do."""
    low = prefix.encode()
    # No byte of UTF-8 is 0xff.
    return low, low[:-1] + bytes((low[-1] + 1,)) if low else b"\xff"
