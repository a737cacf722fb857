"""What only rare orders of events show: found by the schedules of `tests/model`, reduced to the least."""

from __future__ import annotations

import asyncio
import gc
import random

import pytest

from gated import document, opened, tier
from marked import marked
from model.schedules.loop import Loop
from tiercache import MISSING, NEVER, Record
from tiercache.engine.deadlines import Deadlines, Overdue
from tiercache.testing import FakeClock


def run(scenario, order="queue", seed=0):
    """Run *scenario* in virtual time: deadlines pass at once."""
    loop = Loop(random.Random(seed), order)
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(scenario())
        assert not asyncio.all_tasks(loop)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        gc.collect()
    assert loop.lost == []


def now():
    return 1_600_000_000 + asyncio.get_running_loop().time()


def cached(tiers=("memory", "shelf"), plugins=(), **options):
    return opened(document(all={"tiers": list(tiers), "ttl": "1h", **options}), clock=now, plugins=plugins)


async def turns():
    for _ in range(50):
        await asyncio.sleep(0)


class Stubborn:
    """A loader that brings its value, or raises, in spite of being cancelled."""

    def __init__(self, error=None):
        self.error = error
        self.began, self.cancelled, self.go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, *keys):
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return dict.fromkeys(keys[0], "old") if keys else "old"


def test_a_loop_may_be_closed_right_after_a_cache():
    async def scenario():
        async with cached(("memory",)):
            pass

    for seed in range(20):
        run(scenario, "any", seed)


@pytest.mark.parametrize("ask", ["invalidate", "keys"])
def test_listing_a_tier_that_hangs_ends_at_its_deadline(ask):
    async def scenario():
        async with cached() as cache:
            await cache.set("ab", 1)
            tier(cache, "shelf").gate.clear()
            async with asyncio.timeout(60):
                if ask == "keys":
                    assert [key async for key in cache.keys("*b")] == ["ab"]
                else:
                    await cache.invalidate(match="*b")
            assert cache.stats().tiers["shelf"].errors
            tier(cache, "shelf").gate.set()
            assert await cache.get("ab") == (1 if ask == "keys" else None)

    run(scenario)


def test_a_listing_under_way_ends_when_the_cache_is_closed():
    async def scenario():
        cache = await cached().start()
        tier(cache, "shelf").gate.clear()
        dropping = asyncio.create_task(cache.invalidate(match="*b"))
        await turns()
        await cache.close()
        async with asyncio.timeout(60):
            await dropping

    run(scenario)


def test_a_cache_that_was_closed_under_its_callers_leaves_no_timer_behind():
    async def scenario():
        cache = await opened(marked(), clock=now, plugins=("marked",)).start()
        shelf = tier(cache, "shelf")
        shelf.gate.clear()
        asking = [asyncio.create_task(cache.clear()), asyncio.create_task(cache.invalidate(match="*b"))]
        await turns()
        await cache.close()
        await asyncio.wait(asking)
        await asyncio.sleep(60)
        assert [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()] == []

    run(scenario)


def test_a_call_that_goes_on_although_cancelled_is_cancelled_again_where_it_hangs_again():
    async def scenario():
        deadlines, given_up = Deadlines(), asyncio.Event()

        async def act():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(1)
            await asyncio.Event().wait()

        asking = asyncio.create_task(deadlines.within(1.0, act, given_up=given_up.set))
        await given_up.wait()
        assert deadlines.strays == 1
        async with asyncio.timeout(60):
            with pytest.raises(Overdue):
                await asking
        assert deadlines.strays == 0

    run(scenario)


def test_a_call_that_has_to_be_cancelled_twice_is_overdue_and_not_cancelled():
    async def scenario():
        deadlines = Deadlines()

        async def act():
            for _ in range(2):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    continue
            await asyncio.sleep(0)
            raise asyncio.CancelledError

        with pytest.raises(Overdue):
            await deadlines.within(1.0, act)
        assert asyncio.current_task().cancelling() == 0

    run(scenario)


def test_what_invalidates_and_is_cancelled_is_told_to_the_tiers_all_the_same():
    async def scenario():
        async with opened(marked(), clock=FakeClock(), plugins=("marked",)) as cache:
            shelf = tier(cache, "shelf")
            for number, ask in enumerate((cache.clear, lambda: cache.invalidate(tags=["t"]))):
                shelf.gate.clear()
                asking = asyncio.create_task(ask())
                await turns()
                asking.cancel()
                await asyncio.wait([asking])
                shelf.error = OSError("away")
                shelf.gate.set()
                await turns()
                shelf.error = None
                await asyncio.sleep(10)
                assert len(shelf.markers) == number + 1

    run(scenario)


def test_a_load_that_everybody_left_is_stored_nowhere_whatever_it_brings():
    async def scenario():
        async with cached() as cache:
            loader = Stubborn()
            asking = asyncio.create_task(cache.get_or_set("k", loader))
            await loader.began.wait()
            asking.cancel()
            await loader.cancelled.wait()
            await cache.delete("k")
            loader.go_on.set()
            await turns()
            assert await cache.get("k", MISSING) is MISSING

    run(scenario)


@pytest.mark.parametrize("error", [None, OSError("interrupted")])
def test_a_caller_who_is_cancelled_leaves_no_error_to_the_next_one(error):
    async def scenario():
        async with cached(("shelf",), negative_ttl="5s", negative_errors=True) as cache:
            loader = Stubborn(error)

            async def endless():
                await asyncio.Event().wait()

            asking = asyncio.create_task(cache.get_or_set("k", endless if error is None else loader))
            await turns()
            asking.cancel()
            loader.go_on.set()
            await turns()
            assert await cache.get_or_set("k", lambda: "new") == "new"

    run(scenario)


def test_a_caller_who_is_cancelled_lets_nobody_else_be_served_stale():
    async def scenario():
        async with cached(("memory",), ttl="1s", stale="1h") as cache:
            await cache.set("k", "old")
            await asyncio.sleep(2)

            async def endless():
                await asyncio.Event().wait()

            asking = asyncio.create_task(cache.get_or_set("k", endless))
            await turns()
            asking.cancel()
            await turns()
            assert await cache.get_or_set("k", lambda: "new") == "new"

    run(scenario)


def test_an_error_of_a_bulk_load_that_everybody_left_is_not_called_lost():
    async def scenario():
        async with cached() as cache:
            loader = Stubborn(OSError("interrupted"))
            asking = asyncio.create_task(cache.get_or_set_many(["a", "b"], loader))
            await loader.began.wait()
            asking.cancel()
            loader.go_on.set()
            await turns()

    run(scenario)


def test_what_one_call_loads_is_dated_before_the_call_whichever_of_its_loads_runs_first():
    async def scenario():
        async with cached() as cache:
            loads = cache._house.routes["all"].flights.loads

            async def loader(keys):
                called = cache._clock.stamp()
                await turns()
                assert [loads[key].began < called for key in keys] == [True] * len(keys)
                return dict.fromkeys(keys, 1)

            keys = [f"k{number}" for number in range(5)]
            assert await cache.get_or_set_many(keys, loader) == dict.fromkeys(keys, 1)

    for seed in range(20):
        run(scenario, "any", seed)


def test_a_glob_reaches_what_is_on_its_way_to_a_tier():
    async def scenario():
        async with cached(("shelf",)) as cache:
            shelf, go_on = tier(cache, "shelf"), asyncio.Event()
            write = shelf.write

            async def slow(records):
                await go_on.wait()
                return await write(records)

            shelf.write = slow
            assert await cache.get_or_set("ab", lambda: "old") == "old"
            dropping = asyncio.create_task(cache.invalidate(match="*b"))
            await turns()
            go_on.set()
            await dropping
            assert await cache.get("ab", MISSING) is MISSING
            assert shelf.living() == set()

    run(scenario)


def test_a_glob_reaches_what_waits_for_a_tier_to_be_back():
    async def scenario():
        async with cached(("shelf",)) as cache:
            shelf = tier(cache, "shelf")
            shelf.error = OSError("away")
            await cache.set("ab", "old")
            shelf.error = None
            await cache.invalidate(match="*b")
            await asyncio.sleep(10)
            assert await cache.get("ab", MISSING) is MISSING
            assert shelf.living() == set()

    run(scenario)


def test_a_stale_copy_that_stands_in_for_a_slow_load_does_so_no_longer_than_it_may():
    async def scenario():
        async with cached(("memory",), ttl="1s", stale="10s", soft_timeout="1s", hard_timeout="2s") as cache:
            await cache.set("k", "old")
            await asyncio.sleep(5)
            loader = Stubborn()
            assert await cache.get_or_set("k", loader) == "old"
            await asyncio.sleep(1)
            assert await cache.get_or_set("k", loader) == "old"
            await asyncio.sleep(6)
            with pytest.raises(TimeoutError):
                await cache.get_or_set("k", loader)
            loader.go_on.set()

    run(scenario)


def test_what_a_set_replaces_is_not_read_back_while_it_is_under_way():
    async def scenario():
        stages = document(all={"tiers": ["memory", "shelf"], "ttl": "1h"})
        stages["tier"]["memory"] |= {"max_entries": 1}
        async with opened(stages, clock=now) as cache:
            await cache.set("k", "old")
            shelf = tier(cache, "shelf")
            shelf.gate.clear()
            setting = asyncio.create_task(cache.set("k", "new"))
            await turns()
            others = [asyncio.create_task(cache.set("evicts", 1))]
            await turns()
            reading = asyncio.create_task(cache.get("k"))
            await turns()
            shelf.gate.set()
            await asyncio.wait([setting, reading, *others])
            assert await cache.get("k") == "new"

    run(scenario)


def test_a_marker_of_another_process_parts_the_loads_that_it_covers_and_no_others():
    async def scenario():
        async with opened(marked(), clock=now, plugins=("marked",)) as cache:
            house, go_on = cache._house, asyncio.Event()
            calls = []

            async def loader():
                calls.append(1)
                await go_on.wait()

            first = asyncio.create_task(cache.get_or_set("k", loader, tags=["mine"]))
            await turns()
            for name, loads in (("t:other", 1), ("p:other", 1), ("t:mine", 2), ("p:k", 3), ("*", 4)):
                house.invalidation.heard({name: house.clock.stamp()}, house.fars["shelf"])
                asking = asyncio.create_task(cache.get_or_set("k", loader, tags=["mine"]))
                await turns()
                assert len(calls) == loads
                asking.cancel()
            go_on.set()
            await asyncio.wait([first])

    run(scenario)


def test_a_value_whose_writes_hang_is_handed_on_no_longer_than_it_is_fresh():
    async def scenario():
        async with cached(("shelf",), ttl="1s") as cache:
            shelf = tier(cache, "shelf")

            async def hang(_records):
                await asyncio.Event().wait()

            shelf.write = hang
            assert await cache.get_or_set("k", lambda: "old") == "old"
            assert await cache.get_or_set("k", lambda: "new") == "old"
            await asyncio.sleep(1.5)
            assert await cache.get_or_set("k", lambda: "new") == "new"

    run(scenario)


def test_a_delete_that_is_made_good_where_nothing_stands_keeps_older_writes_out():
    async def scenario():
        async with cached(("shelf",)) as cache:
            shelf = tier(cache, "shelf")
            older = cache._house.clock.stamp()
            shelf.error = OSError("away")
            await cache.delete("k")
            shelf.error = None
            await asyncio.sleep(10)
            # As another process does whose own write was missed before the delete.
            codec = cache._house.fars["shelf"].codec
            frame = codec.encode(b"tiercache:k", "old", older, NEVER, NEVER)
            assert await shelf.write([Record("tiercache:k", frame, NEVER, older, conditional=True)]) == [0]
            assert await cache.get("k", MISSING) is MISSING

    run(scenario)
