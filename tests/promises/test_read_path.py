"""Reading through several tiers, and copying what was found to the nearer ones."""

from __future__ import annotations

import asyncio

import pytest

from promises.scene import Source, play, settle
from servers import Server
from tiercache import Cache
from tiercache.testing import FaultProxy


def test_a_promoted_copy_lives_no_longer_than_what_it_was_copied_from():
    """The PyPI package tiercache 0.1.13 and react_on_rails PR #5029 restarted the TTL on promotion."""

    async def scenario(here):
        await here.cache.set("k", "v", ttl=100)
        here.clock.advance(60)
        async with here.another() as other:
            assert await other.cache.get("k") == "v"
            assert await other.cache.ttl("k") == pytest.approx(40, abs=0.01)
            here.clock.advance(40)
            assert await other.cache.get("k") is None

    play(scenario)


def test_a_copy_between_far_tiers_keeps_the_life_of_the_entry():
    """The same bug one tier further out: FusionCache copies the stamps, most others do not."""

    async def scenario(here):
        await here.cache.set("k", "v", ttl=100)
        here.far("shelf").rows.clear()
        here.clock.advance(60)
        async with here.another() as other:
            assert await other.cache.get("k") == "v"
            await settle()
        async with here.another(tiers=["shelf"]) as third:
            assert await third.cache.ttl("k") == pytest.approx(40, abs=0.01)

    play(scenario)


def test_a_near_tier_of_shorter_life_shortens_its_own_copy_alone():
    """jetcache has `useExpireOfSubCache`, because its tiers do not agree by themselves."""

    async def scenario(here):
        await here.cache.set("k", "v", ttl=100)
        assert here.cache.peek("k") == "v"
        here.clock.advance(11)
        assert here.cache.peek("k") is None
        assert await here.cache.get("k") == "v"
        assert await here.cache.ttl("k") == pytest.approx(89, abs=0.01)

    play(scenario, near={"max_ttl": "10s"})


def test_an_older_far_value_never_replaces_a_newer_near_one():
    """FusionCache's read-only path promotes without the key's lock, so a slow L2 read undoes a `Set`."""

    async def scenario(here):
        await here.cache.set("k", "old")
        async with here.another() as other:
            other.far("shelf").gate.clear()
            reading = asyncio.create_task(other.cache.get("k"))
            await settle()
            writing = asyncio.create_task(other.cache.set("k", "new"))
            await settle()
            other.far("shelf").gate.set()
            assert await reading == "old"
            await writing
            assert other.cache.peek("k") == "new"

    play(scenario)


def test_an_older_copy_never_replaces_a_newer_one_in_a_tier_between():
    """What FusionCache #613 is in one process, between two: the promotion arrives after somebody's `set`."""

    async def scenario(here):
        await here.cache.set("k", "old")
        shelf = here.far("shelf").rows
        shelf.clear()
        async with here.another() as other:
            other.far("shelf").gate.clear()
            reading = asyncio.create_task(other.cache.get("k"))
            await settle()
            here.clock.advance(1)
            async with here.another(tiers=["shelf"]) as third:
                await third.cache.set("k", "new")
            other.far("shelf").gate.set()
            assert await reading == "old"
            await settle()
        async with here.another(tiers=["shelf"]) as third:
            assert await third.cache.get("k") == "new"

    play(scenario)


@pytest.mark.parametrize("drop", ["delete", "invalidate", "clear"])
def test_what_was_read_before_an_entry_was_dropped_is_not_kept_after(drop):
    """FusionCache #613: a fetch during `Expire` fills L1 again from an L2 that has not heard of it yet."""

    async def scenario(here):
        await here.cache.set("k", "old", tags=["t"])
        async with here.another() as other:
            held = other.hold()
            reading = asyncio.create_task(other.cache.get("k"))
            await settle()
            other.go_on()
            if drop == "delete":
                await other.cache.delete("k")
            elif drop == "invalidate":
                await other.cache.invalidate(tags=["t"])
            else:
                await other.cache.clear()
            held.set()
            await reading
            await settle()
            assert other.cache.peek("k") is None
            assert await other.cache.get("k") is None

    play(scenario)


def test_a_value_that_is_being_dropped_is_not_brought_back_by_a_reader_in_between():
    """FusionCache, jetcache and bentocache drop L1 before L2: who reads in between promotes the old value."""

    async def scenario(here):
        await here.cache.set("k", "old")
        async with here.another() as other:
            held = other.hold("cellar")
            dropping = asyncio.create_task(other.cache.delete("k"))
            await settle()
            other.go_on("cellar")
            assert await other.cache.get("k") == "old"
            held.set()
            await dropping
            assert other.cache.peek("k") is None
            assert await other.cache.get("k") is None

    play(scenario, tiers=("memory", "cellar"))


def test_a_stale_near_copy_does_not_hide_that_another_process_has_refreshed():
    """FusionCache looks into L2 then, too, and made `SkipDistributedCacheReadWhenStale` an option."""

    async def scenario(here):
        source = Source("mine")
        await here.cache.get_or_set("k", source)
        await here.later(101)
        async with here.another() as other:
            await other.cache.set("k", "theirs")
        assert await here.cache.get_or_set("k", source) == "theirs"
        assert source.calls == 1

    play(scenario, stale="1h")


def test_of_two_stale_copies_the_newer_one_is_served_and_not_the_nearer():
    """bentocache has a test for it: "should prioritize remote value when both are logically expired"."""

    async def scenario(here):
        source = Source("mine")
        await here.cache.get_or_set("k", source)
        await here.later(1)
        async with here.another() as other:
            await other.cache.set("k", "theirs")
        here.clock.advance(101)
        source.error = OSError("source")
        assert await here.cache.get_or_set("k", source) == "theirs"

    play(scenario, stale="1h")


def test_a_hit_in_the_last_tier_fills_both_tiers_before_it():
    """FusionCache and HybridCache have two tiers; who puts a disk below by hand forgets the one between."""

    async def scenario(here):
        await here.cache.set("k", "v")
        here.far("shelf").rows.clear()
        async with here.another() as other:
            assert await other.cache.get("k") == "v"
            await settle()
            assert other.cache.peek("k") == "v"
            assert other.far("shelf").living() == {"tiercache:k"}

    play(scenario)


def test_a_server_that_accepts_connections_and_never_answers_stops_neither_start_nor_reads():
    """cacheable #1202, keyv #1496: hung at connect, where no timeout of a `get` applies."""

    async def main():
        with Server("valkey") as server:
            async with FaultProxy(server.host, server.port) as proxy:
                proxy.black_hole = True
                document = {
                    "cache": {"bus": "none"},
                    "tier": {
                        "memory": {"type": "memory"},
                        "far": {"type": "redis", "url": f"redis://127.0.0.1:{proxy.port}/0"},
                    },
                    "route": {"all": {"tiers": ["memory", "far"], "ttl": "1h"}},
                }
                async with Cache.open(document) as cache:
                    assert await cache.get_or_set("k", lambda: 1) == 1
                    assert cache.stats().tiers["far"].available is False

    async def bounded():
        async with asyncio.timeout(60):
            await main()

    asyncio.run(bounded())
