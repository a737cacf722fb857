"""What processes tell each other, through a real server and a real file."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager

import pytest
import redis

from promises.scene import PATIENCE
from servers import Server
from tiercache import Cache, ConfigError
from tiercache.testing import FaultProxy

LEASE = 0.5


@pytest.fixture(scope="module")
def server():
    with Server("valkey") as running:
        yield running


def described(tier, **route):
    """Return a document as anybody would write it: memory before *tier*, and nothing said of a bus."""
    return {
        "cache": {"namespace": f"bus{os.urandom(4).hex()}", "lease": LEASE},
        "tier": {"memory": {"type": "memory"}, "far": tier},
        "route": {"all": {"tiers": ["memory", "far"], "ttl": "1h", **route}},
    }


@pytest.fixture(params=["redis", "sqlite"])
def document(request, server, tmp_path):
    if request.param == "redis":
        return described({"type": "redis", "url": server.url})
    return described({"type": "sqlite", "path": str(tmp_path / "c.db")})


@asynccontextmanager
async def two(document, other=None):
    """Open two caches, as two processes would."""
    async with asyncio.timeout(3 * PATIENCE), Cache.open(document) as here:
        async with Cache.open(other or document) as there:
            yield here, there


async def trusted(cache, key):
    """Return once *cache* gives *key* from memory: its lease lives."""
    while cache.peek(key) is None:
        await cache.get(key)
        await asyncio.sleep(0.01)


async def gone(cache, key):
    """Return once *cache* has no near copy of *key* any more."""
    while cache.peek(key) is not None:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("change", ["set", "delete", "tag", "prefix", "clear"])
def test_what_one_process_changes_the_others_drop_without_being_configured(document, change):
    """jetcache #817, #832, #851, #944, #1003: four settings must agree, or local caches go on in silence."""

    async def main():
        async with two(document) as (here, there):
            await there.set("k", "old", tags=["t"])
            await trusted(here, "k")
            acts = {
                "set": lambda: there.set("k", "new"),
                "delete": lambda: there.delete("k"),
                "tag": lambda: there.invalidate(tags=["t"]),
                "prefix": lambda: there.invalidate(prefix="k"),
                "clear": there.clear,
            }
            await acts[change]()
            await gone(here, "k")
            assert await here.get("k") == ("new" if change == "set" else None)

    asyncio.run(main())


def test_what_was_missed_while_the_connection_was_away_is_not_served_beyond_the_lease(server):
    """FusionCache retries on the sender's side alone: what a receiver missed, it never hears."""

    async def main():
        async with FaultProxy(server.host, server.port) as proxy:
            direct = described({"type": "redis", "url": server.url})
            behind = {**direct, "tier": {**direct["tier"]}}
            behind["tier"]["far"] = {"type": "redis", "url": f"redis://127.0.0.1:{proxy.port}/0"}
            async with two(behind, direct) as (here, there):
                await there.set("k", "old")
                await trusted(here, "k")
                proxy.black_hole = True
                await there.set("k", "new")
                async with asyncio.timeout(PATIENCE):
                    while await here.get("k") == "old":
                        await asyncio.sleep(0.02)
                # Whatever is tried from here on, it does not come back.
                for _ in range(50):
                    assert await here.get("k") in {None, "new"}
                    await asyncio.sleep(0.01)
                proxy.black_hole = False
                while await here.get("k") != "new":
                    await asyncio.sleep(0.02)

    asyncio.run(main())


def test_while_nobody_is_heard_a_source_is_asked_once_a_lease_and_not_by_everybody(server):
    """cashews clears its memory at each reconnection: right, and a stampede if the bus stays away."""

    async def main():
        async with FaultProxy(server.host, server.port) as proxy:
            proxy.black_hole = True
            behind = described({"type": "redis", "url": f"redis://127.0.0.1:{proxy.port}/0"})
            behind["cache"]["lease"] = "1h"
            async with asyncio.timeout(PATIENCE), Cache.open(behind) as cache:
                calls = []
                for _ in range(200):
                    assert await cache.get_or_set("k", lambda: calls.append(1) or "v") == "v"
                assert len(calls) == 1

    asyncio.run(main())


def test_a_process_does_not_drop_what_it_wrote_itself(document):
    """bentocache and FusionCache know their own messages by an instance's id: else a `set` evicts itself."""

    async def main():
        async with two(document) as (here, there):
            await here.set("other", 1)
            await trusted(there, "other")
            await trusted(here, "other")
            for number in range(20):
                await here.set("k", number)
                assert here.peek("k") == number
            await here.set("other", 2)
            await gone(there, "other")
            # By now whatever was said before has come back, too.
            assert here.peek("k") == 19

    asyncio.run(main())


def test_a_bus_without_a_tier_to_tell_of_is_refused():
    """FusionCache, docs/Backplane.md: without a shared L2 the nodes evict each other's entries for ever."""
    with pytest.raises(ConfigError, match="nothing to tell"):
        Cache.open({
            "cache": {"bus": "far"},
            "bus": {"far": {"type": "redis"}},
            "route": {"all": {"tiers": ["memory"]}},
        })  # fmt: skip


def test_no_value_travels_over_the_bus(server):
    """FusionCache sends no values either: a bus is read by many, and a secret is nobody's news."""

    async def main():
        document = described({"type": "redis", "url": server.url, "serializer": "raw"})
        heard = []
        with redis.Redis.from_url(server.url) as client, client.pubsub() as listener:
            listener.psubscribe("*")
            async with two(document) as (here, _):
                await here.set("k", "a secret that nobody announces")
                await here.delete("k")
                await here.get_or_set("l", lambda: "a secret that nobody announces")
                await here.set("last", 1)
                while not any(b"last" in message for message in heard):
                    told = await asyncio.to_thread(listener.get_message, timeout=1.0)
                    heard += [bytes(told["data"])] if told and told["type"] == "pmessage" else []
        assert any(b":k" in message for message in heard)
        assert not [message for message in heard if b"secret" in message]

    asyncio.run(main())
