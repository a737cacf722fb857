"""Loads that begin before an entry ends."""

from __future__ import annotations

import asyncio

from promises.scene import Source, play, settle


def test_of_many_processes_one_refreshes_and_the_others_take_its_result():
    """FusionCache #604, #651: an eager refresh does not look into L2, so N nodes call the source N times."""

    async def scenario(here):
        source = Source()
        await here.cache.get_or_set("k", source)
        await settle()
        async with here.another() as other:
            assert await other.cache.get_or_set("k", source) == 1
            here.clock.advance(85)
            assert await other.cache.get_or_set("k", source) == 1
            await settle()
            assert source.calls == 2
            assert await here.cache.get_or_set("k", source) == 1
            await settle()
        assert source.calls == 2
        assert here.cache.peek("k") == 2

    play(scenario, refresh_ahead=0.8)


def test_of_a_crowd_of_readers_one_starts_the_refresh_and_none_waits():
    """FusionCache #426: the mark for the refresh was read twice, without the lock."""

    async def scenario(here):
        source = Source()
        await here.cache.get_or_set("k", source)
        await here.later(85)
        source.gate.clear()
        crowd = [asyncio.create_task(here.cache.get_or_set("k", source)) for _ in range(50)]
        assert set(await asyncio.gather(*crowd)) == {1}
        await settle()
        assert await here.cache.get_or_set("k", source) == 1
        assert source.calls == 2
        assert here.route().refreshes == 1
        source.gate.set()
        await settle()
        assert here.cache.peek("k") == 2

    play(scenario, refresh_ahead=0.8)


def test_a_refresh_is_dropped_where_the_key_changed_meanwhile():
    """Caffeine #193, #251: `discardRefresh`; without it the refresh puts the old value back."""

    async def scenario(here):
        source = Source()
        for change in ("set", "delete"):
            source.calls = 0
            await here.cache.get_or_set("k", source)
            await here.later(85)
            source.gate.clear()
            await here.cache.get_or_set("k", source)
            await settle()
            await (here.cache.set("k", "mine") if change == "set" else here.cache.delete("k"))
            source.gate.set()
            await settle()
            assert await here.cache.get("k") == ("mine" if change == "set" else None)
            await here.cache.delete("k")
            await here.later(1)

    play(scenario, refresh_ahead=0.8)


def test_a_refresh_that_outlives_the_entry_is_joined_and_ends_in_the_new_value():
    """Caffeine #175: where a load takes longer than the interval, the value is stale for ever."""

    async def scenario(here):
        source = Source()
        await here.cache.get_or_set("k", source)
        await here.later(85)
        source.gate.clear()
        assert await here.cache.get_or_set("k", source) == 1
        await here.later(20)
        late = asyncio.create_task(here.cache.get_or_set("k", source))
        await settle()
        assert not late.done()
        source.gate.set()
        assert await late == 2
        assert source.calls == 2

    play(scenario, refresh_ahead=0.8)


def test_a_refresh_that_fails_leaves_what_is_fresh_and_rests():
    """Caffeine keeps the old value then; but the source must not be asked again by every reader."""

    async def scenario(here):
        source = Source()
        await here.cache.get_or_set("k", source)
        await here.later(85)
        source.error = OSError("source")
        for _ in range(10):
            assert await here.cache.get_or_set("k", source) == 1
            await settle()
        assert source.calls == 2
        assert await here.cache.get("k") == 1

    play(scenario, refresh_ahead=0.8)
