"""Real faults before a real server, and chance before a tier in memory; short."""

import asyncio
import time

import pytest

from gated import document, opened, tier
from servers import Server
from tiercache import Cache
from tiercache.testing import ChaosTier, FakeClock, FaultProxy


@pytest.fixture(scope="module")
def server():
    with Server("valkey") as running:
        yield running


def behind(port):
    return {
        "tier": {"far": {"type": "redis", "url": f"redis://127.0.0.1:{port}/0", "deadline": "300ms"}},
        "route": {"all": {"tiers": ["far"], "ttl": "1h"}},
    }


@pytest.mark.parametrize("fault", ["black hole", "refuse", "freeze", "kill"])
def test_what_was_set_and_deleted_while_the_server_was_away_holds_once_it_is_back(server, fault):
    async def main():
        async with FaultProxy(server.host, server.port) as proxy, Cache.open(behind(proxy.port)) as cache:
            await cache.set_many({"k": "old", "gone": "old"})

            def strike(on):
                if fault == "black hole":
                    proxy.black_hole = on
                elif fault == "refuse":
                    proxy.refuse = on
                    proxy.reset()
                elif fault == "freeze":
                    server.freeze() if on else server.thaw()
                else:
                    server.kill() if on else server.start()

            strike(True)
            try:
                began = time.monotonic()
                await asyncio.gather(cache.set("k", "new"), cache.delete("gone"))
                assert await cache.get_many(["k", "gone"]) == {}
                assert time.monotonic() - began < 3
                assert cache.stats().tiers["far"].queued == 2
            finally:
                strike(False)
            async with asyncio.timeout(15):
                while cache.stats().tiers["far"].queued:
                    assert await cache.get("k") in {None, "new"}
                    assert await cache.get("gone") is None
                    await asyncio.sleep(0.05)
            assert await cache.get("k") == "new"
            assert await cache.get("gone") is None

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(5))
def test_chance_lets_no_error_and_no_outdated_value_through(seed):
    async def main():
        clock = FakeClock()
        wanted = document(all={"tiers": ["shelf"]})
        wanted["tier"]["shelf"].update(type="gated", deadline="10ms")
        async with opened(wanted, clock=clock) as cache:
            chances = {"fail": 0.1, "hang": 0.02, "corrupt": 0.1, "lie": 0.1, "delay": 0.02}
            guard = cache._house.fars["shelf"].guard
            guard.tier = ChaosTier(tier(cache, "shelf"), seed=seed, delay=0.001, chances=chances)
            last = {}
            for number in range(150):
                key = f"k{number % 7}"
                await cache.set(key, number)
                last[key] = number
                for each, value in last.items():
                    assert await cache.get(each) in {None, value}
                clock.advance(0.3)
            assert {"fail", "corrupt"} <= set(guard.tier.faults)

    asyncio.run(main())
