"""One process on a disk that fails: it writes, reads and deletes, and ends with 1 where anything is wrong.

Run as `python -m faults.full PATH LIMIT`: files may have LIMIT bytes until half of the work is done; 0: any.
"""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import sys
from typing import Any

from tiercache import Cache, TierUnavailable

ROUNDS = 400


def limited(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size or hard, hard))


async def main(path: str, limit: int) -> None:
    chance = random.Random(7)
    held: dict[str, Any] = {}
    wanted = {
        # So small that the disk is asked.
        "tier": {
            "memory": {"type": "memory", "max_entries": 10},
            "disk": {"type": "sqlite", "path": path, "deadline": "20s"},
        },
        "route": {"all": {"tiers": ["memory", "disk"], "ttl": "1h"}},
    }
    async with Cache.open(wanted) as cache:
        await cache.set("before", "x" * 100)
        if limit:
            limited(limit)
        for number in range(ROUNDS):
            if number == ROUNDS // 2 and limit:
                assert cache.stats().tiers["disk"].errors, "the disk never failed"
                limited(0)
            key = f"k{chance.randrange(40)}"
            if chance.random() < 0.7:
                held[key] = (number, "x" * chance.randrange(20_000))
                await cache.set(key, held[key])
            else:
                held.pop(key, None)
                await cache.delete(key)
            asked = f"k{chance.randrange(40)}"
            found = await cache.get(asked)
            assert found is None or found == held.get(asked), (asked, found, held.get(asked))
            if number % 50 == 0:
                try:
                    await cache.increment("n")
                except TierUnavailable:
                    # What must not be guessed says so.
                    pass
        if limit:
            async with asyncio.timeout(60):
                while cache.stats().tiers["disk"].queued:
                    await cache.get("before")
                    await asyncio.sleep(0.05)
            held["after"] = 1
            await cache.set("after", 1)
            for near in cache._house.nears.values():
                near.clear()
            cache._bind()
            assert await cache.get("after") == 1
            for key, value in held.items():
                assert await cache.get(key) in {None, value}
    print("well", cache.stats().tiers["disk"].errors)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
