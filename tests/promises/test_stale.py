"""Stale copies that stand in for a source that fails, and those that must not."""

from __future__ import annotations

import asyncio

import pytest

from promises.scene import Source, play, settle

FAILED = OSError("source")


async def aged(here, source, **call):
    """Load `k`, let it grow old, and break its source."""
    value = await here.cache.get_or_set("k", source, **call)
    await here.later(101)
    source.error = FAILED
    return value


def test_serving_a_stale_copy_again_and_again_never_lengthens_its_life():
    """FusionCache #108, #229, #475: each failure re-arms the copy, and its maximum duration is ignored."""

    async def scenario(here):
        source = Source("old")
        await aged(here, source)
        for _ in range(8):
            assert await here.cache.get_or_set("k", source) == "old"
            await here.later(1)
        await here.later(1)
        with pytest.raises(OSError, match="source"):
            await here.cache.get_or_set("k", source)

    play(scenario, stale="10s")


def test_a_stale_copy_that_stands_in_is_neither_stored_far_nor_seen_by_others():
    """FusionCache guards its L2 writes by `isStale == false`: a copy must look fresh to nobody else."""

    async def scenario(here):
        source = Source("old")
        await aged(here, source)
        here.far("shelf").calls.clear()
        assert await here.cache.get_or_set("k", source) == "old"
        await settle()
        assert {what for what, _ in here.far("shelf").calls} == {"read"}
        async with here.another() as other:
            assert await other.cache.get("k") is None

    play(scenario, stale="1h")


@pytest.mark.parametrize("drop", ["delete", "tag", "prefix", "glob", "clear"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["near and far", "far alone"])
def test_what_was_removed_is_not_served_as_a_stale_copy_either(drop, elsewhere):
    """FusionCache #648: after Clear(false), a factory that fails brings back what was removed."""

    async def scenario(here):
        source = Source("old")
        await aged(here, source, tags=["t"])
        async with here.another() as other:
            there = other if elsewhere else here
            acts = {
                "delete": lambda: there.cache.delete("k"),
                "tag": lambda: there.cache.invalidate(tags=["t"]),
                "prefix": lambda: there.cache.invalidate(prefix="k"),
                "glob": lambda: there.cache.invalidate(match="?"),
                "clear": there.cache.clear,
            }
            await acts[drop]()
            with pytest.raises(OSError, match="source"):
                await there.cache.get_or_set("k", source)

    play(scenario, stale="1h")


def test_what_is_removed_while_its_loader_fails_is_not_served_after_all():
    """The same race one moment later: the stale copy was found before it was removed."""

    async def scenario(here):
        source = Source("old")
        await aged(here, source)
        source.gate.clear()
        loading = asyncio.create_task(here.cache.get_or_set("k", source))
        await settle()
        await here.cache.delete("k")
        source.gate.set()
        with pytest.raises(OSError, match="source"):
            await loading

    play(scenario, stale="1h")


def test_the_tags_of_a_stale_copy_are_those_of_the_entry():
    """cashews' `failover` keeps a copy without tags, so `delete_tags` does not reach it."""

    async def scenario(here):
        source = Source("old")
        await aged(here, source, tags=["t"])
        assert await here.cache.get_or_set("k", source) == "old"
        await here.cache.invalidate(tags=["t"])
        with pytest.raises(OSError, match="source"):
            await here.cache.get_or_set("k", source)

    play(scenario, stale="1h", tiers=("memory",))


def test_invalidating_is_hard_and_expiring_is_soft():
    """bentocache #71: with grace, the old value comes back after `deleteByTag`."""

    async def scenario(here):
        source = Source("old")
        await here.cache.get_or_set("k", source)
        await settle()
        source.error = FAILED
        assert await here.cache.expire("k")
        assert await here.cache.get("k") is None
        assert await here.cache.get_or_set("k", source) == "old"
        await here.cache.delete("k")
        with pytest.raises(OSError, match="source"):
            await here.cache.get_or_set("k", source)

    play(scenario, stale="1h")


def test_expiring_keeps_the_stale_copy_in_far_tiers_too():
    """FusionCache #553: `Expire` throws the L2 copy away, as IDistributedCache knows no logical expiry."""

    async def scenario(here):
        source = Source("old")
        await here.cache.get_or_set("k", source)
        await settle()
        source.error = FAILED
        async with here.another() as other:
            await other.cache.expire("k")
        async with here.another() as third:
            assert await third.cache.get_or_set("k", source) == "old"

    play(scenario, stale="1h")


def test_a_failing_source_is_left_alone_for_a_while():
    """FusionCache has a throttle duration: else each reader of a stale copy calls a source that is down."""

    async def scenario(here):
        source = Source("old")
        await aged(here, source)
        for _ in range(20):
            assert await here.cache.get_or_set("k", source) == "old"
        assert source.calls == 2
        await here.later(5)
        assert await here.cache.get_or_set("k", source) == "old"
        assert source.calls == 3

    play(scenario, stale="1h")


def test_a_fallback_for_a_first_load_that_fails_is_served_and_never_stored():
    """FusionCache's `failSafeDefaultValue`; stored, a default would outlive the failure that it covers."""

    async def scenario(here):
        source = Source("v")
        source.error = FAILED
        assert await here.cache.get_or_set("k", source, fallback=None) is None
        assert not await here.cache.exists("k")
        source.error = None
        assert await here.cache.get_or_set("k", source, fallback=None) == "v"

    play(scenario)
