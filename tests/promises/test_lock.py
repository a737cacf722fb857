"""One load in all processes, where a route asks for it."""

from __future__ import annotations

import asyncio
import os

import pytest

from promises.scene import PATIENCE, Source, settle
from servers import Server
from tiercache import Cache
from tiercache.testing import FakeClock, FaultProxy


@pytest.fixture(scope="module")
def server():
    with Server("valkey") as running:
        yield running


def described(tier):
    """Return a document: memory before *tier*, and one load in all processes."""
    return {
        "cache": {"namespace": f"lock{os.urandom(4).hex()}"},
        "tier": {"memory": {"type": "memory"}, "far": tier},
        "route": {"all": {"tiers": ["memory", "far"], "ttl": "1h", "lock": True}},
    }


@pytest.fixture(params=["redis", "sqlite"])
def document(request, server, tmp_path):
    if request.param == "redis":
        return described({"type": "redis", "url": server.url, "timeout": "5s", "deadline": "10s"})
    return described({"type": "sqlite", "path": str(tmp_path / "c.db")})


def run(scenario):
    """Run the coroutine function *scenario*, and give up some time."""

    async def bounded():
        async with asyncio.timeout(2 * PATIENCE):
            await scenario()

    asyncio.run(bounded())


async def entered(source, calls=1):
    """Return once the loader was called so often."""
    while source.calls < calls:
        await asyncio.sleep(0.01)


def test_a_cold_key_is_loaded_once_in_all_processes(document):
    """dotnet/extensions #6759 asks for it: with HybridCache, N nodes call the source N times."""

    async def scenario():
        source = Source("v", held=True)
        caches = [Cache.open(document) for _ in range(4)]
        await asyncio.gather(*(cache.start() for cache in caches))
        asking = [asyncio.create_task(cache.get_or_set("k", source)) for cache in caches for _ in range(10)]
        await entered(source)
        await asyncio.sleep(0.2)
        source.gate.set()
        assert set(await asyncio.gather(*asking)) == {"v"}
        assert source.calls == 1
        await asyncio.gather(*(cache.close() for cache in caches))

    run(scenario)


def test_a_loader_that_fails_lets_the_next_process_load_at_once(document):
    """cashews #127: waiters that poll keep the one from letting go that they wait for."""

    async def scenario():
        async with Cache.open(document) as here, Cache.open(document) as there:
            failing, source = Source(held=True), Source("v")
            failing.error = OSError("source")
            first = asyncio.create_task(here.get_or_set("k", failing))
            await entered(failing)
            second = [asyncio.create_task(there.get_or_set("k", source)) for _ in range(50)]
            await asyncio.sleep(0.1)
            assert source.calls == 0
            failing.gate.set()
            with pytest.raises(OSError, match="source"):
                await first
            async with asyncio.timeout(PATIENCE):
                assert set(await asyncio.gather(*second)) == {"v"}
            assert source.calls == 1

    run(scenario)


def test_a_delete_elsewhere_voids_a_load_whatever_the_clocks_say(tmp_path):
    """rueidisaside: a `DEL` takes the lease away, and without it a stale result is not stored."""

    async def scenario():
        document = described({"type": "sqlite", "path": str(tmp_path / "c.db")})
        clock = FakeClock()
        ahead = FakeClock(clock() + 900)
        async with Cache.open(document, clock=ahead) as here, Cache.open(document, clock=clock) as there:
            source = Source("old", held=True)
            loading = asyncio.create_task(here.get_or_set("k", source))
            await entered(source)
            await there.delete("k")
            source.gate.set()
            assert await loading == "old"
            await settle()
        async with Cache.open(document, clock=clock) as third:
            assert await third.get("k") is None

    run(scenario)


def test_where_the_lock_can_not_be_had_each_process_loads_for_itself(server):
    """aiocache #1040: Redis away, and the lock raises; in FusionCache a lock that fails fails no call."""

    async def scenario():
        async with FaultProxy(server.host, server.port) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}/0"
            async with Cache.open(described({"type": "redis", "url": url})) as cache:
                assert await cache.get_or_set("a", lambda: 1) == 1
                proxy.refuse = True
                proxy.reset()
                assert await cache.get_or_set("b", lambda: 2) == 2
                assert await cache.get_or_set_many(["c", "d"], lambda keys: dict.fromkeys(keys, 3)) == {
                    "c": 3, "d": 3,
                }  # fmt: skip

    run(scenario)
