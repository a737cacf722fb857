"""A far tier of plain files: one a key, in one directory."""

from __future__ import annotations

import asyncio
import os
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import ClassVar, Final, Literal, NamedTuple, TypeVar

from pydantic import Field

from tiercache import Clock, Context, FarTier, FarTierConfig, Record, TierConfig, TierRefused, hookimpl
from tiercache.frame import restamped, stamp_of

T = TypeVar("T")

_HEADER: Final = struct.Struct(">qH")
_CHUNK: Final = 200


class ShelfConfig(FarTierConfig):
    """Keeps each entry in a file of its own."""

    type: Literal["shelf"] = "shelf"
    scope: ClassVar[Literal["shared", "host"]] = "host"

    directory: str = Field(
        "shelf", description="Where the files are, from the directory of the configuration."
    )

    def build(self, context: Context) -> FarTier:
        """Return the tier; the directory is made when it is opened."""
        return Shelf(context.directory / self.directory, context.clock)


class _Book(NamedTuple):
    key: str
    expires_at: int
    frame: bytes


class Shelf:
    """Files named by a digest of the key; each holds expiry, key and frame, and is replaced as a whole.

    It can list its keys and swap, but neither wipe nor count: the kernel makes do with what there is. Swaps
    are exact within one process.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._lock = threading.Lock()
        self._written = 0

    async def open(self) -> None:
        """Make the directory. Raises TierRefused where there can't be one."""
        try:
            await asyncio.to_thread(self._directory.mkdir, parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise TierRefused(f"{self._directory} is no directory") from error

    async def close(self) -> None:
        """Nothing is held open."""

    async def read(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Return the frame of each key."""
        return await self._act(lambda: [book.frame if (book := self._take(key)) else None for key in keys])

    async def write(self, records: Sequence[Record]) -> Sequence[int]:
        """Store *records*, later stamps before earlier ones."""
        return await self._act(lambda: [self._put(record) for record in records])

    async def delete(self, keys: Sequence[str]) -> Sequence[bool]:
        """Remove the files of *keys*."""
        return await self._act(lambda: [self._drop(key) for key in keys])

    async def scan(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        """Yield the keys that begin with *prefix*."""
        paths = await self._act(lambda: sorted(self._directory.glob("*.entry")))
        for start in range(0, len(paths), _CHUNK):
            yield await self._act(
                lambda start=start: [
                    book.key
                    for path in paths[start : start + _CHUNK]
                    if (book := self._open(path)) is not None and book.key.startswith(prefix)
                ]
            )

    async def swap(self, record: Record, expected: int | None) -> bool:
        """Store *record* where the stamp is *expected*."""

        def swapped() -> bool:
            standing = self._take(record.key)
            if (None if standing is None else stamp_of(standing.frame)) != expected:
                return False
            return self._store(record, record.frame)

        return await self._act(swapped)

    def stats(self) -> Mapping[str, int]:
        """Return how many frames were written."""
        return {"written": self._written}

    async def _act(self, act: Callable[[], T]) -> T:
        def locked() -> T:
            with self._lock:
                return act()

        return await asyncio.to_thread(locked)

    def _path(self, key: str) -> Path:
        return self._directory / f"{blake2b(key.encode(), digest_size=20).hexdigest()}.entry"

    def _open(self, path: Path) -> _Book | None:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        if len(content) < _HEADER.size:
            return None
        expires_at, length = _HEADER.unpack_from(content)
        key = content[_HEADER.size : _HEADER.size + length].decode(errors="replace")
        if expires_at <= self._clock.micros():
            return None
        return _Book(key, expires_at, content[_HEADER.size + length :])

    def _take(self, key: str) -> _Book | None:
        book = self._open(self._path(key))
        return book if book is not None and book.key == key else None

    def _put(self, record: Record) -> int:
        standing = self._take(record.key)
        stamp, frame = record.stamp, record.frame
        if standing is not None and (stood := stamp_of(standing.frame)) >= stamp:
            if record.conditional:
                return 0
            stamp = stood + 1
            frame = restamped(frame, stamp)
        return stamp if self._store(record, frame) else 0

    def _store(self, record: Record, frame: bytes) -> bool:
        path = self._path(record.key)
        if record.expires_at <= self._clock.micros():
            path.unlink(missing_ok=True)
            return False
        key = record.key.encode()
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(_HEADER.pack(record.expires_at, len(key)) + key + frame)
        fresh.replace(path)
        self._written += 1
        return True

    def _drop(self, key: str) -> bool:
        there = self._take(key) is not None
        self._path(key).unlink(missing_ok=True)
        return there


@hookimpl
def tiercache_tiers() -> Iterable[type[TierConfig]]:
    """Return the tier of this module."""
    return [ShelfConfig]
