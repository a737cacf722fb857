"""Invalidation by tags, prefixes and clear, through markers that are stamps."""

from __future__ import annotations

import asyncio

import pytest

from promises.scene import PATIENCE, Source, play, settle, until
from servers import Server
from tiercache import Cache, Loaded
from tiercache.testing import FakeClock


def disk(tmp_path, *between, **route):
    """Return a document: memory before a file, with the tiers *between* them."""
    return {
        "cache": {"bus": "none"},
        "tier": {
            "memory": {"type": "memory"},
            "disk": {"type": "sqlite", "path": str(tmp_path / "cache.db")},
            **dict(between),
        },
        "route": {"all": {"tiers": ["memory", *(name for name, _ in between), "disk"], "ttl": "1h", **route}},
    }


def on_disk(scenario, tmp_path, *between, **route):
    """Run *scenario* with what opens a cache on the file, again and again."""
    clock = FakeClock()

    async def main():
        async with asyncio.timeout(3 * PATIENCE):
            await scenario(lambda: Cache.open(disk(tmp_path, *between, **route), clock=clock), clock)

    asyncio.run(main())


def failing():
    raise OSError("source")


def test_an_entry_is_as_old_as_the_beginning_of_its_load():
    """FusionCache #535, bentocache: stamped after the factory, an entry survives what came meanwhile."""

    async def scenario(here):
        source = Source(Loaded("old", tags=("t",)), held=True)
        loading = asyncio.create_task(here.cache.get_or_set("k", source))
        await settle()
        await here.cache.invalidate(tags=["t"])
        source.gate.set()
        assert await loading == "old"
        await settle()
        assert await here.cache.get("k") is None
        assert here.far("shelf").living() == set()

    play(scenario)


def test_who_asks_after_an_invalidation_is_not_given_what_began_before_it():
    """FusionCache #535, seen by those who come later: they must not join the load that is out of date."""

    async def scenario(here):
        source = Source("old", held=True)
        early = asyncio.create_task(here.cache.get_or_set("k", source, tags=["t"]))
        await settle()
        await here.cache.invalidate(tags=["t"])
        late = asyncio.create_task(here.cache.get_or_set("k", Source("new"), tags=["t"]))
        await settle()
        source.gate.set()
        assert await early == "old"
        assert await late == "new"
        assert await here.cache.get("k") == "new"

    play(scenario)


def test_an_invalidation_outlasts_the_process_that_asked_for_it(tmp_path):
    """firnflow PR #61: generations in memory, entries on disk: a restart revives what was invalidated."""

    async def scenario(opened, clock):
        async with opened() as cache:
            await cache.set("k", "old", tags=["t"])
            await cache.set("user:1", "old")
            await cache.invalidate(tags=["t"], prefix="user:")
        clock.advance(1)
        async with opened() as cache:
            assert await cache.get_many(["k", "user:1"]) == {}
            with pytest.raises(OSError, match="source"):
                await cache.get_or_set("k", failing)

    on_disk(scenario, tmp_path, stale="1h")


def test_a_shared_tier_that_was_flushed_revives_nothing_on_the_disk_below(tmp_path):
    """firnflow PR #61 with the tiers turned round: no peer has a disk below Redis that could outlive it."""
    with Server("valkey") as server:
        far = ("far", {"type": "redis", "url": server.url})

        async def scenario(opened, clock):
            async with opened() as cache:
                await cache.set("k", "old", tags=["t"])
                await cache.invalidate(tags=["t"])
            server.ask("FLUSHALL")
            clock.advance(1)
            async with opened() as cache:
                assert await cache.get("k") is None

        on_disk(scenario, tmp_path, far)


def test_a_marker_that_is_told_on_keeps_its_stamp(tmp_path):
    """FusionCache #627: a marker that is broadcast again with the time of now evicts what came after it."""
    with Server("valkey") as server:
        both = disk(tmp_path, ("far", {"type": "redis", "url": server.url}))

        async def scenario(opened, clock):
            async with opened() as cache:
                await cache.invalidate(tags=["t"])
                clock.advance(1)
                await cache.set("k", "new", tags=["t"])
            for _ in range(2):
                # The server has not heard of the marker yet; the first to come tells it.
                clock.advance(1)
                async with Cache.open(both, clock=clock) as cache:
                    assert await cache.get("k") == "new"

        on_disk(scenario, tmp_path)


@pytest.mark.parametrize("later", ["shelf", "cellar"])
def test_of_two_clears_the_later_one_counts_whichever_is_heard_of_first(later):
    """FusionCache exchanges the stamp of a clear where it must take the greater one."""

    async def scenario(here):
        for name in ("shelf", "cellar"):
            seconds = here.clock() + (1 if name == later else -1)
            here.far(name).markers["*"] = int(seconds * 1e6)
        await here.cache.set("k", "old")
        here.clock.advance(2)
        async with here.another() as other:
            assert await other.cache.get("k") is None
            await other.cache.set("k", "new")
            assert await other.cache.get("k") == "new"

    play(scenario)


def test_of_equal_stamps_the_invalidation_wins(tmp_path):
    """FusionCache compares by "at or before": two processes may read their clocks at the same moment."""

    async def scenario(opened, clock):
        async with opened() as cache, opened() as other:
            await cache.set("k", "old", tags=["t"])
            # The same clock, which has not moved: the other's first stamp is the same.
            await other.invalidate(tags=["t"])
        async with opened() as third:
            assert await third.get("k") is None

    on_disk(scenario, tmp_path)


def test_an_entry_dated_ahead_is_invalidated_by_whoever_has_seen_it(tmp_path):
    """FusionCache #319: a server whose clock is 15 minutes ahead writes what nobody's tag can remove."""

    async def scenario(opened, clock):
        ahead = FakeClock(clock() + 900)
        async with Cache.open(disk(tmp_path), clock=ahead) as cache:
            await cache.set("k", "old", tags=["t"])
        async with opened() as cache:
            assert await cache.get("k") == "old"
            await cache.invalidate(tags=["t"])
            assert await cache.get("k") is None
        async with opened() as cache:
            assert await cache.get("k") is None

    on_disk(scenario, tmp_path)


def test_a_tag_costs_one_marker_however_many_keys_carry_it():
    """cashews keeps a SET for each tag; such sets grow, and get slow: neos PR #2052."""

    async def scenario(here):
        await here.cache.set_many({f"k{number}": number for number in range(600)}, tags=["t"])
        here.far("shelf").calls.clear()
        await here.cache.invalidate(tags=["t"])
        ((what, names),) = here.far("shelf").calls
        assert (what, len(names)) == ("mark", 1)
        assert await here.cache.get_many([f"k{number}" for number in range(600)]) == {}

    play(scenario)


def test_markers_are_bounded_and_what_they_invalidated_stays_dead():
    """FusionCache #625: who removes by one tag a key fears that the tags grow for ever."""

    async def scenario(here):
        await here.cache.set("k", "old", tags=["first"])
        await here.cache.invalidate(tags=["first"])
        for number in range(50):
            here.clock.advance(0.001)
            await here.cache.invalidate(tags=[f"t{number}"])
        assert len(here.far("shelf").markers) <= 12
        assert await here.cache.get("k") is None
        here.clock.advance(0.001)
        await here.cache.set("k", "new", tags=["first"])
        async with here.another() as other:
            assert await other.cache.get("k") == "new"

    play(scenario, house={"max_markers": 10}, ttl="1h")


def test_a_tier_that_was_away_is_told_of_the_invalidation_once_it_is_back():
    """HybridCache #7411: each node keeps for ever what it once knew of a tag."""

    async def scenario(here):
        await here.cache.set("k", "old", tags=["t"])
        here.far("shelf").error = here.far("cellar").error = OSError("away")
        await here.cache.invalidate(tags=["t"])
        here.far("shelf").error = here.far("cellar").error = None
        here.clock.advance(40)
        assert await here.cache.get("k") is None
        await until(lambda: here.far("shelf").markers and here.far("cellar").markers)
        async with here.another() as other:
            assert await other.cache.get("k") is None

    play(scenario, ttl="1h", stale="1h")
