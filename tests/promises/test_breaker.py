"""Far tiers that fail, hang or lie: nobody waits for them long, and what they missed is made good."""

from __future__ import annotations

import asyncio

from promises.scene import play, settle


def asked(here, name="shelf"):
    """Return how many calls have arrived at a far tier."""
    return len(here.far(name).calls)


async def back(here):
    """Let time pass, and let the tier answer something, whereupon it is told what it missed."""
    here.clock.advance(31)
    await here.cache.get("nobody")
    await settle()


async def made_good(here):
    """Return once the tier was told all that it missed."""
    while here.cache.stats().tiers["shelf"].queued:
        await back(here)


def test_one_failure_leaves_a_tier_in_use_and_a_run_of_them_does_not():
    """FusionCache and bentocache open their breaker on the first failure, for a fixed time."""

    async def scenario(here):
        for failures in (1, 2, 3, 4):
            await here.cache.get(f"well{failures}")
            here.far().error = OSError("once")
            await here.cache.get(f"miss{failures}")
            here.far().error = None
            assert here.cache.stats().tiers["shelf"].breaker == "closed"
            here.clock.advance(31)
            await here.cache.get(f"well again{failures}")
        here.far().error = OSError("away")
        for number in range(5):
            await here.cache.get(f"k{number}")
        assert here.cache.stats().tiers["shelf"].breaker == "open"

    play(scenario, tiers=("shelf",))


def test_a_tier_behind_an_open_breaker_costs_no_call():
    """litellm PR #35273: clients that swallow errors keep a breaker closed, and every request pays."""

    async def scenario(here):
        here.far().error = OSError("away")
        for number in range(5):
            await here.cache.get(f"k{number}")
        before = asked(here)
        for number in range(100):
            assert await here.cache.get(f"k{number}") is None
            await here.cache.set(f"k{number}", number)
        assert asked(here) == before

    play(scenario, tiers=("shelf",))


def test_after_a_pause_one_call_is_let_through_and_not_a_crowd():
    """FusionCache's breaker closes when its time is over: a crowd then meets a tier that still hangs."""

    async def scenario(here):
        here.far().error = OSError("away")
        for number in range(5):
            await here.cache.get(f"k{number}")
        before = asked(here)
        here.clock.advance(2)
        held = here.hold()
        crowd = [asyncio.create_task(here.cache.get(f"k{number}")) for number in range(20)]
        crowd += [asyncio.create_task(here.cache.set(f"k{number}", 1)) for number in range(20)]
        await settle()
        assert asked(here) == before + 1
        here.far().error = None
        held.set()
        await asyncio.gather(*crowd)
        assert here.cache.stats().tiers["shelf"].breaker == "closed"

    play(scenario, tiers=("shelf",))


def test_nobody_waits_for_a_tier_that_hangs_beyond_its_deadline():
    """litellm PR #35273: a dropped socket timeout, and requests wait for ever; mcp-context-forge PR #4074."""

    async def scenario(here):
        held = here.hold()
        assert await here.cache.get_many(["a", "b"]) == {}
        await here.cache.set("c", 1)
        assert await here.cache.get_or_set("d", lambda: 2) == 2
        held.set()

    play(scenario, tiers=("shelf",), far={"deadline": "20ms"})


def test_bytes_that_nobody_can_read_say_nothing_about_whether_the_tier_is_well():
    """litellm PR #40672: what is no failure of the server opens the breaker of a healthy one."""

    async def scenario(here):
        for number in range(20):
            await here.cache.set(f"k{number}", "v")
        rows = here.far().rows
        for key, (frame, expires_at) in list(rows.items()):
            rows[key] = frame[:-1] + b"?", expires_at
        assert await here.cache.get_many([f"k{number}" for number in range(20)]) == {}
        assert here.cache.stats().tiers["shelf"].corrupt == 20
        assert here.cache.stats().tiers["shelf"].breaker == "closed"

    play(scenario, tiers=("shelf",))


def test_what_a_tier_could_not_be_told_is_not_read_from_it_until_it_was():
    """A tier that comes back still holds what was deleted: a breaker that only closes serves it again."""

    async def scenario(here):
        await here.cache.set_many({"changed": "old", "gone": "old"}, ttl="never")
        here.far().error = OSError("away")
        await here.cache.set("changed", "new", ttl="never")
        await here.cache.delete("gone")
        here.far().error = None
        here.clock.advance(0.001)
        found = await here.cache.get_many(["changed", "gone"])
        assert found in ({}, {"changed": "new"})
        await made_good(here)
        assert await here.cache.get_many(["changed", "gone"]) == {"changed": "new"}

    play(scenario, tiers=("shelf",))


def test_a_delete_that_is_made_good_spares_what_another_process_wrote_meanwhile():
    """FusionCache's auto-recovery replays a queued `Remove` blindly, and deletes what is newer."""

    async def scenario(here):
        await here.cache.set("k", "old", ttl="never")
        here.far().error = OSError("away")
        await here.cache.delete("k")
        here.clock.advance(1)
        async with here.another() as other:
            await other.cache.set("k", "theirs", ttl="never")
        here.far().error = None
        await made_good(here)
        async with here.another() as third:
            assert await third.cache.get("k") == "theirs"

    play(scenario, tiers=("shelf",))


def test_of_many_writes_that_a_tier_missed_the_last_of_each_key_is_made_good():
    """FusionCache keeps one item a key, too: replayed in turn, old values would come by once more."""

    async def scenario(here):
        here.far().error = OSError("away")
        for number in range(200):
            await here.cache.set(f"k{number % 3}", number, ttl="never")
        assert here.cache.stats().tiers["shelf"].queued == 3
        here.far().error = None
        await made_good(here)
        async with here.another() as other:
            assert await other.cache.get_many(["k0", "k1", "k2"]) == {"k0": 198, "k1": 199, "k2": 197}

    play(scenario, tiers=("shelf",))


def test_a_write_that_a_tier_refuses_does_not_hold_up_the_others():
    """FusionCache's auto-recovery stops at the first item that fails, and so does everything behind it."""

    async def scenario(here):
        here.far().error = OSError("away")
        for key in ("a", "poison", "b", "c", "d"):
            await here.cache.set(key, key, ttl="never")
        write = here.far().write

        async def picky(records):
            if any(record.key.endswith("poison") for record in records):
                raise OSError("not this one")
            return await write(records)

        here.far().write = picky
        here.far().error = None
        while not here.far().living() >= {f"tiercache:{key}" for key in "abcd"}:
            await back(here)

    play(scenario, tiers=("shelf",))
