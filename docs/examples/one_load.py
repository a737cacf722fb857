"""Ask for one key a hundred times at once: the loader runs once, and one caller who leaves hurts nobody.

python docs/examples/one_load.py
"""

from __future__ import annotations

import asyncio

from tiercache import Cache


async def main() -> None:
    """Start a hundred callers, cancel the first."""
    calls = 0

    async def load() -> str:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.05)
        return "the answer"

    async with Cache.open({"route": {"answers": {"tiers": ["memory"], "ttl": "1m"}}}) as cache:
        callers = [asyncio.create_task(cache.get_or_set("question", load)) for _ in range(100)]
        await asyncio.sleep(0.01)
        callers[0].cancel()
        answers = await asyncio.gather(*callers, return_exceptions=True)
        print(f"{answers.count('the answer')} answers from {calls} load")


if __name__ == "__main__":
    asyncio.run(main())
