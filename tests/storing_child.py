"""A process that stores by write-behind until it is killed: it says what was acknowledged.

Its source is a file of lines "key number", written with one call each, which a kill can't tear.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tiercache import Cache
from tiercache_plugins.patterns import WriteBehindPattern
from tiercache_plugins.patterns.write_behind import Terms

KEYS = 7


async def main(directory: Path, first: int) -> None:
    source = os.open(directory / "source", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def save_many(writes):
        await asyncio.sleep(0.002)
        for write in writes:
            os.write(source, f"{write.key} {write.value}\n".encode())

    async with Cache.open({"route": {"all": {"tiers": ["memory"]}}}) as cache:
        pattern = WriteBehindPattern(
            cache,
            batch_writer=save_many,
            path=directory / "outbox.db",
            terms=Terms(batch=5, max_pending=10**6),
        )
        number = first
        while True:
            # Several at once, so that kills meet transactions of several writes; each key in order.
            await asyncio.gather(*(store(pattern, f"k{key}", number + key) for key in range(KEYS)))
            number += KEYS


async def store(pattern: WriteBehindPattern, key: str, number: int) -> None:
    await pattern.set(key, number)
    os.write(1, f"{key} {number}\n".encode())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
