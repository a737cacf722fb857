"""Loads that take longer than their callers wait, and go on without them."""

from __future__ import annotations

import asyncio
import gc

import pytest

from gated import opened
from promises.scene import PATIENCE, Source, described, play, settle
from tiercache import Loaded, LoadTimeout
from tiercache.testing import FakeClock


def test_a_soft_timeout_cuts_nobody_off_who_has_nothing_else():
    """FusionCache: the soft timeout applies only where a fallback exists."""

    async def scenario(here):
        source = Source("v", held=True)
        waiting = asyncio.create_task(here.cache.get_or_set("k", source))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        source.gate.set()
        assert await waiting == "v"

    play(scenario, soft_timeout="1ms", stale="1h")


def test_a_far_tier_that_hangs_is_not_waited_for_beyond_the_soft_timeout():
    """FusionCache #534: the L2 read that follows a stale L1 hit ignores the timeouts of the factory."""

    async def scenario(here):
        await here.cache.set("k", "old")
        await here.later(101)
        held = here.hold("shelf")
        assert await here.cache.get_or_set("k", Source("new")) == "old"
        held.set()

    play(scenario, soft_timeout="1ms", stale="1h")


def test_what_a_late_load_brings_is_as_old_as_its_beginning():
    """FusionCache #628: a factory that ends in the background is dated when it ends."""

    async def scenario(here):
        async def slow():
            await go_on.wait()
            return Loaded("old", tags=("t",))

        go_on = asyncio.Event()
        with pytest.raises(LoadTimeout):
            await here.cache.get_or_set("k", slow)
        await here.cache.invalidate(tags=["t"])
        go_on.set()
        await settle()
        assert await here.cache.get("k") is None

    play(scenario, hard_timeout="1ms")


def test_while_a_load_goes_on_in_the_background_nobody_starts_another():
    """FusionCache hands the lock over to the background task; let go, every caller starts a factory."""

    async def scenario(here):
        source = Source("v", held=True)
        for _ in range(3):
            with pytest.raises(LoadTimeout):
                await here.cache.get_or_set("k", source)
        assert source.calls == 1
        source.gate.set()
        await settle()
        assert await here.cache.get_or_set("k", source) == "v"
        assert source.calls == 1

    play(scenario, hard_timeout="1ms")


def test_callers_who_leave_a_background_load_neither_end_it_nor_lock_the_key():
    """FusionCache #218: a caller's cancellation together with a background factory leaves the lock taken."""

    async def scenario(here):
        source = Source("v", held=True)
        with pytest.raises(LoadTimeout):
            await here.cache.get_or_set("k", source)
        late = asyncio.create_task(here.cache.get_or_set("k", source))
        await settle()
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        source.gate.set()
        await settle()
        assert source.cancelled == 0
        assert await here.cache.get("k") == "v"

    play(scenario, hard_timeout="200ms")


def test_closing_waits_for_a_load_in_the_background():
    """Background completion, as FusionCache has it, must not be lost at shutdown."""

    async def main():
        source = Source("v", held=True)
        cache = opened(described(hard_timeout="1ms"), clock=FakeClock(), plugins=["marked"])
        async with asyncio.timeout(PATIENCE):
            await cache.start()
            with pytest.raises(LoadTimeout):
                await cache.get_or_set("k", source)
            closing = asyncio.create_task(cache.close())
            await settle()
            assert not closing.done()
            source.gate.set()
            await closing
        assert source.cancelled == 0
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_closing_leaves_no_load_behind_that_was_still_looking_into_a_far_tier():
    """asyncio: what nobody waits for is a "Task was destroyed but it is pending" at the end."""

    async def main():
        source = Source("v")
        cache = opened(described(refresh_ahead=0.5), clock=(clock := FakeClock()), plugins=["marked"])
        async with asyncio.timeout(PATIENCE):
            await cache.start()
            await cache.get_or_set("k", source)
            await settle()
            clock.advance(60)
            shelf = cache._house.fars["shelf"].guard.tier
            shelf.gate.clear()
            source.gate.clear()
            assert await cache.get_or_set("k", source) == "v"
            await settle()
            closing = asyncio.create_task(cache.close())
            await settle()
            shelf.gate.set()
            await settle()
            assert source.at_once == 1
            assert not closing.done()
            source.gate.set()
            await closing
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_an_error_in_the_background_is_counted_and_no_callers_problem():
    """bentocache tests "should not generate an unhandled promise rejection" of a factory that ends late."""

    async def scenario(here):
        lost = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
        source = Source("v", held=True)
        source.error = OSError("source")
        with pytest.raises(LoadTimeout):
            await here.cache.get_or_set("k", source)
        source.gate.set()
        await settle()
        assert here.route().load_errors == 1
        source.error = None
        assert await here.cache.get_or_set("k", source) == "v"
        await settle()
        gc.collect()
        assert lost == []

    play(scenario, hard_timeout="1ms")
