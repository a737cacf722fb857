"""Keep configurations by name where all processes of a host find them: two caches on one file.

python docs/examples/configuration.py
"""

from __future__ import annotations

import asyncio
import tempfile

from tiercache import Cache
from tiercache_plugins.integrations import ConfigCache

# Each read asks the file whether what is near still holds, so a change is seen by the next read.
DOCUMENT = {
    "tier": {"memory": {"type": "memory"}, "disk": {"type": "sqlite"}},
    "route": {"configs": {"tiers": ["memory", "disk"], "coherent": True}},
}


async def main() -> None:
    """Set configurations by one cache, and read them by the other, as two processes would."""
    with tempfile.TemporaryDirectory() as directory:
        place = {"disk": {"path": f"{directory}/configs.sqlite3"}}
        async with Cache.open(DOCUMENT, tier=place) as one, Cache.open(DOCUMENT, tier=place) as other:
            here, there = ConfigCache(one), ConfigCache(other)
            await here.set_config("limits", {"uploads": 5})
            print("found:", await there.get_config("limits"))
            await here.set_config("limits", {"uploads": 9})
            print("changed:", await there.get_config("limits"))
            await there.set_config("colour", "green")
            print("all:", await here.get_all_configs())
            await here.delete_config("limits")
            print("dropped:", await there.get_config("limits", "none"))


if __name__ == "__main__":
    asyncio.run(main())
