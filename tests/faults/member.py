"""One process of several that share a server: it writes keys of its own, reads everybody's, and notes what
was old.

Run as `python -m faults.member CONFIGURATION`, a JSON object: `number` of this member, `members`, `keys` of
each, `source` (the file with the current versions), `log`, `document`. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import random
import struct
import sys
import time
from pathlib import Path
from typing import Any

from tiercache import Cache

VERSION = struct.Struct("<Q")


class Source:
    """The truth: one version a key, in memory that the processes share."""

    def __init__(self, path: str, keys: int) -> None:
        self._file = Path(path).open("r+b")
        self._map = mmap.mmap(self._file.fileno(), keys * VERSION.size)

    @staticmethod
    def make(path: Path, keys: int) -> None:
        path.write_bytes(bytes(keys * VERSION.size))

    def version(self, key: int) -> int:
        return int(VERSION.unpack_from(self._map, key * VERSION.size)[0])

    def raise_to(self, key: int, version: int) -> None:
        VERSION.pack_into(self._map, key * VERSION.size, version)


class Member:
    """What one process does until it is told to end."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.number = int(told["number"])
        self.keys = int(told["keys"])
        self.members = int(told["members"])
        self.source = Source(told["source"], self.keys * self.members)
        self.document = told["document"]
        self.log = Path(told["log"])
        self.random = random.Random(self.number)
        self.reads = 0
        self.errors: list[str] = []
        self.old: list[tuple[int, int, float]] = []
        self.written: list[tuple[int, int, float]] = []
        self.ended = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(sys.stdin.fileno(), ended.set)
        async with Cache.open(self.document) as cache:
            print("ready", flush=True)
            tasks = [
                asyncio.create_task(self.forever(act, cache))
                for act in (self.write, self.read, self.read, self.read_or_load, self.read_or_load)
            ]
            await ended.wait()
            self.ended = True
            await asyncio.gather(*tasks)
            near = cache.stats().tiers["memory"].hits
            trusted = [coherence.errors for coherence in cache._house.hearing.coherences]
        self.log.write_text(
            json.dumps(
                {
                    "reads": self.reads, "near": near, "errors": self.errors, "old": self.old,
                    "written": self.written, "bus errors": trusted,
                }
            )
        )  # fmt: skip

    async def forever(self, act: Any, cache: Cache) -> None:
        while not self.ended:
            try:
                await act(cache)
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(0)

    async def write(self, cache: Cache) -> None:
        """Write a key of one's own, and note when the others could know of it."""
        key = self.number * self.keys + self.random.randrange(self.keys)
        version = self.source.version(key) + 1
        self.source.raise_to(key, version)
        name = f"k{key}"
        await (cache.delete(name) if version % 5 == 0 else cache.set(name, version))
        while cache.stats().tiers["shared"].queued and not self.ended:
            # The server was away: it is told later.
            await asyncio.sleep(0.005)
        if not self.ended:
            self.written.append((key, version, time.monotonic()))
        await asyncio.sleep(self.random.random() * 0.02)

    async def read(self, cache: Cache) -> None:
        await self.looked(lambda name, _: cache.get(name))

    async def read_or_load(self, cache: Cache) -> None:
        await self.looked(lambda name, key: cache.get_or_set(name, lambda: self.source.version(key)))

    async def looked(self, ask: Any) -> None:
        for _ in range(20):
            key = self.random.randrange(self.keys * self.members)
            current, began = self.source.version(key), time.monotonic()
            found = await ask(f"k{key}", key)
            self.reads += 1
            if found is not None and found < current:
                self.old.append((key, found, began))
        await asyncio.sleep(0.004)


if __name__ == "__main__":
    asyncio.run(Member(json.loads(sys.argv[1])).run())
