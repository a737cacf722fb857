"""Count visits where all processes of a host agree: in a file, without a near tier in front.

python docs/examples/visits.py
"""

from __future__ import annotations

import asyncio
import tempfile

from tiercache import Cache

DOCUMENT = {
    "tier": {"disk": {"type": "sqlite"}},
    "route": {"visits": {"tiers": ["disk"], "ttl": "1d"}},
}


async def main() -> None:
    """Count from two caches on one file, as two processes would."""
    with tempfile.TemporaryDirectory() as directory:
        place = {"disk": {"path": f"{directory}/visits.sqlite3"}}
        async with Cache.open(DOCUMENT, tier=place) as one, Cache.open(DOCUMENT, tier=place) as other:
            await asyncio.gather(*(cache.increment("page:/") for cache in (one, other) * 10))
            print("visits:", await one.get("page:/"))


if __name__ == "__main__":
    asyncio.run(main())
