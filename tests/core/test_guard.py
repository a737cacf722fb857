"""What stands before a far tier: nobody waits long for one that hangs, and one that is away costs nothing."""

import asyncio
import time

import pytest

from gated import document, opened, tier
from tiercache import TierUnavailable
from tiercache.engine.guard import REOPEN_AFTER
from tiercache.testing import FakeClock

DEADLINE = 0.05


def hanging(*tiers, clock=None):
    wanted = document(all={"tiers": [*tiers]})
    wanted["tier"]["shelf"]["deadline"] = f"{int(DEADLINE * 1000)}ms"
    return opened(wanted, clock=clock)


def test_callers_of_a_hung_tier_get_a_miss_within_its_deadline_whoever_waits_behind():
    async def main():
        async with hanging("shelf") as cache:
            tier(cache, "shelf").gate.clear()
            began = time.monotonic()
            calls = [cache.get(f"k{number}", "miss") for number in range(5)]
            first = asyncio.gather(*calls, cache.set("s", 1), cache.delete("d"))
            await asyncio.sleep(DEADLINE / 2)
            behind = asyncio.gather(cache.get("late", "miss"), cache.set("t", 1))
            assert (await first)[:5] == ["miss"] * 5
            assert await behind == ["miss", None]
            assert time.monotonic() - began < 10 * DEADLINE
            assert cache.stats().tiers["shelf"].queued == 3
            tier(cache, "shelf").gate.set()

    asyncio.run(main())


def test_a_call_that_swallows_its_cancellation_holds_nobody_up():
    async def main():
        async with hanging("shelf") as cache:
            shelf, end = tier(cache, "shelf"), asyncio.Event()

            async def stubborn(keys):
                while not end.is_set():
                    try:
                        await end.wait()
                    except asyncio.CancelledError:
                        continue
                return [None] * len(keys)

            shelf.read, sound = stubborn, shelf.read
            assert await asyncio.wait_for(cache.get("k", "miss"), 5) == "miss"
            # No second call is made while the first one is out there.
            assert await asyncio.wait_for(cache.get("k", "miss"), DEADLINE / 2) == "miss"
            shelf.read = sound
            end.set()
            await asyncio.sleep(0.01)
            await cache.set("k", 1)
            assert await cache.get("k") == 1

    asyncio.run(main())


def test_an_open_breaker_costs_no_call_and_what_may_not_be_guessed_says_so():
    async def main():
        clock = FakeClock()
        async with opened(document(all={"tiers": ["shelf"]}), clock=clock) as cache:
            shelf = tier(cache, "shelf")
            shelf.error = OSError("gone")
            while cache.stats().tiers["shelf"].breaker == "closed":
                await cache.get("k")
            shelf.calls.clear()
            assert await cache.get_many(["a", "b"]) == {}
            await cache.set("k", 1)
            for act in (cache.add("k", 1), cache.touch("k", ttl=1), cache.increment("n")):
                with pytest.raises(TierUnavailable):
                    await act
            assert shelf.calls == []
            shelf.error = None
            clock.advance(REOPEN_AFTER)
            assert await cache.increment("n") == 1
            assert cache.stats().tiers["shelf"].breaker == "closed"

    asyncio.run(main())


def test_a_tier_that_hangs_at_start_is_away_and_stops_nobody(monkeypatch):
    monkeypatch.setattr("tiercache.engine.guard.OPENING", DEADLINE)

    async def main():
        cache = hanging("memory", "shelf")
        tier(cache, "shelf").open = asyncio.Event().wait
        async with asyncio.timeout(5), cache:
            await cache.set("k", 1)
            assert await cache.get("k") == 1
            assert not cache.stats().tiers["shelf"].available

    asyncio.run(main())


def test_close_ends_while_a_tier_hangs(monkeypatch):
    monkeypatch.setattr("tiercache.engine.house.CLOSE_WITHIN", DEADLINE)

    async def main():
        async with asyncio.timeout(5), opened(document(all={"tiers": ["shelf"]})) as cache:
            tier(cache, "shelf").gate.clear()
            reader = asyncio.create_task(cache.get("k", "miss"))
            setter = asyncio.create_task(cache.set("k", 1))
            await asyncio.sleep(0.01)
        assert await reader == "miss"
        await setter

    asyncio.run(main())
