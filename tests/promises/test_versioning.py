"""What began before a change never undoes it: the race that everybody loses."""

from __future__ import annotations

import asyncio

import pytest

from promises.scene import Source, play, settle
from tiercache.testing import FakeClock


@pytest.mark.parametrize("change", ["set", "delete", "tag", "prefix", "glob", "clear", "increment"])
@pytest.mark.parametrize("tiers", [("memory",), ("memory", "shelf", "cellar"), ("shelf",)], ids="+".join)
def test_a_load_that_began_before_a_change_is_stored_nowhere(change, tiers):
    """cashews 7.6.0, aiocache, dogpile 1.5.0, FusionCache #625: the old value is served for its whole TTL."""

    async def scenario(here):
        source = Source("old", held=True)
        loading = asyncio.create_task(here.cache.get_or_set("k", source, tags=["t"]))
        await settle()
        acts = {
            "set": lambda: here.cache.set("k", "new"),
            "delete": lambda: here.cache.delete("k"),
            "tag": lambda: here.cache.invalidate(tags=["t"]),
            "prefix": lambda: here.cache.invalidate(prefix="k"),
            "glob": lambda: here.cache.invalidate(match="?"),
            "clear": here.cache.clear,
            "increment": lambda: here.cache.increment("k"),
        }
        await acts[change]()
        source.gate.set()
        assert await loading == "old"
        await settle()
        expected = {"set": "new", "increment": 1}.get(change)
        assert await here.cache.get("k") == expected
        async with here.another() as other:
            if tiers != ("memory",):
                assert await other.cache.get("k") == expected

    play(scenario, tiers=tiers)


def test_a_load_here_does_not_undo_a_delete_that_another_process_made():
    """Of the peers rueidisaside alone closes this one, by a lease; here a tombstone does."""

    async def scenario(here):
        source = Source("old", held=True)
        loading = asyncio.create_task(here.cache.get_or_set("k", source))
        await settle()
        here.clock.advance(1)
        async with here.another() as other:
            await other.cache.delete("k")
        source.gate.set()
        assert await loading == "old"
        await settle()
        async with here.another() as third:
            assert await third.cache.get("k") is None

    play(scenario)


def test_a_load_here_does_not_undo_a_newer_value_that_another_process_set():
    """py-key-value's passthrough: a reader between two writes puts the old value back for half an hour."""

    async def scenario(here):
        source = Source("old", held=True)
        loading = asyncio.create_task(here.cache.get_or_set("k", source))
        await settle()
        here.clock.advance(1)
        async with here.another() as other:
            await other.cache.set("k", "new")
        source.gate.set()
        assert await loading == "old"
        await settle()
        async with here.another() as third:
            assert await third.cache.get("k") == "new"

    play(scenario)


def test_a_set_wins_whatever_stamp_it_finds():
    """FusionCache #319: a value from a server whose clock is ahead can't be replaced until its time comes."""

    async def scenario(here):
        here.clock.advance(3600)
        await here.cache.set("k", "ahead", ttl="10h")
        here.clock.advance(-3600)
        async with here.another(clock=FakeClock(here.clock())) as other:
            await other.cache.set("k", "mine", ttl="10h")
        async with here.another() as third:
            assert await third.cache.get("k") == "mine"

    play(scenario)


def test_writes_and_deletes_of_a_key_arrive_in_the_order_of_the_calls():
    """aiocache's `wait_for_write=False`: of writes that nobody waits for, the last may land first."""

    async def scenario(here):
        held = here.hold("shelf")
        calls = [asyncio.create_task(here.cache.set("k", 1)) for _ in range(1)]
        for number in range(2, 6):
            calls.append(asyncio.create_task(here.cache.delete("k")))
            calls.append(asyncio.create_task(here.cache.set("k", number)))
        await settle()
        here.go_on()
        held.set()
        await asyncio.gather(*calls)
        async with here.another() as other:
            assert await other.cache.get("k") == 5

    play(scenario, kind="gated")
