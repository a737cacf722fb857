"""add, touch and increment: one tier answers, and nothing is guessed."""

import asyncio

import pytest

from gated import document, opened, tier
from tiercache import TierUnavailable, Unsupported
from tiercache.testing import FakeClock

ALL = {"tiers": ["memory", "shelf", "cellar"], "ttl": "1h"}
NEAR = {"tiers": ["memory"], "ttl": "1h"}


def run(scenario, route=ALL):
    async def main():
        clock = FakeClock()
        async with opened(document(all=dict(route)), clock=clock) as cache:
            return await scenario(cache, clock)

    return asyncio.run(main())


@pytest.fixture(params=[ALL, NEAR, {**ALL, "stale": "1h"}], ids=["far", "near", "stale"])
def route(request):
    return request.param


def test_add_stores_only_where_nothing_fresh_stands(route):
    async def scenario(cache, clock):
        assert await cache.add("k", None, ttl=10)
        assert not await cache.add("k", 2)
        assert await cache.get("k", "miss") is None
        clock.advance(10)
        assert await cache.add("k", 3)
        assert await cache.get("k") == 3
        await cache.delete("k")
        assert await cache.add("k", 4)

    run(scenario, route)


def test_of_many_who_add_at_once_one_wins(route):
    async def scenario(cache, clock):
        results = await asyncio.gather(*(cache.add("k", i) for i in range(20)))
        assert sum(results) == 1
        assert await cache.get("k") == results.index(True)

    run(scenario, route)


def test_increments_from_many_tasks_are_all_counted(route):
    async def scenario(cache, clock):
        await asyncio.gather(*(cache.increment("k", i) for i in range(20)))
        assert await cache.get("k") == 190

    run(scenario, route)


def test_an_increment_keeps_the_expiry_of_the_counter_and_its_tags(route):
    async def scenario(cache, clock):
        assert await cache.increment("k", 5, ttl=10, tags=["t"]) == 5
        clock.advance(4)
        assert await cache.increment("k", -7) == -2
        assert await cache.ttl("k") == pytest.approx(6, abs=1e-3)
        clock.advance(6)
        assert await cache.get("k") is None
        assert await cache.increment("k") == 1

    run(scenario, route)


def test_an_integer_that_was_set_can_be_incremented(route):
    async def scenario(cache, clock):
        await cache.set("k", 2**62)
        assert await cache.increment("k", 2**62 - 1) == 2**63 - 1
        with pytest.raises(OverflowError):
            await cache.increment("k")
        assert await cache.get("k") == 2**63 - 1

    run(scenario, route)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, 2**63])
def test_what_is_no_integer_of_64_bits_is_not_incremented(route, value):
    async def scenario(cache, clock):
        await cache.set("k", value)
        with pytest.raises(TypeError):
            await cache.increment("k")
        assert await cache.get("k", "miss") == value
        with pytest.raises(TypeError):
            await cache.increment("other", 1.0)
        with pytest.raises(OverflowError):
            await cache.increment("other", 2**63)

    run(scenario, route)


def test_touch_gives_a_new_life_and_keeps_value_tags_and_age(route):
    async def scenario(cache, clock):
        value = {"a": (1,)}
        await cache.set("k", value, ttl=10)
        clock.advance(9)
        assert await cache.touch("k", ttl=10)
        assert await cache.ttl("k") == pytest.approx(10, abs=1e-3)
        clock.advance(9)
        assert await cache.get("k") == value
        clock.advance(1)
        assert not await cache.touch("k", ttl=10)
        assert await cache.get("k") is None
        assert not await cache.touch("never", ttl=10)
        with pytest.raises(ValueError, match="more than zero"):
            await cache.touch("k", ttl=0)

    run(scenario, route)


def test_no_other_tier_goes_on_serving_the_old_value():
    async def scenario(cache, clock):
        await cache.set("k", 1)
        assert await cache.increment("k") == 2
        assert cache.peek("k") is None
        assert tier(cache, "cellar").rows == {}
        tier(cache, "shelf").rows.clear()
        assert await cache.get("k") is None

    run(scenario)


def test_a_read_that_began_before_an_increment_is_not_kept():
    async def scenario(cache, clock):
        await cache.set("k", 1)
        cache._empty()
        shelf = tier(cache, "shelf")
        shelf.gate.clear()
        reader = asyncio.create_task(cache.get("k"))
        for _ in range(5):
            await asyncio.sleep(0)
        writer = asyncio.create_task(cache.increment("k"))
        for _ in range(5):
            await asyncio.sleep(0)
        shelf.gate.set()
        assert await writer == 2
        await reader
        assert await cache.get("k") == 2

    run(scenario)


@pytest.mark.parametrize(
    "act", [lambda c: c.add("k", 1), lambda c: c.touch("k", ttl=1), lambda c: c.increment("k")]
)
def test_where_the_authority_is_away_nothing_is_guessed(act):
    async def scenario(cache, clock):
        await cache.set("k", 1)
        tier(cache, "shelf").error = OSError("away")
        with pytest.raises(TierUnavailable, match="shelf"):
            await act(cache)

    run(scenario)


def test_where_the_authority_can_not_compare_and_set_it_says_so():
    async def main():
        doc = document(all={"tiers": ["cellar"]})
        doc["tier"]["cellar"]["type"] = "gated"
        async with opened(doc, clock=FakeClock()) as cache:
            with pytest.raises(Unsupported, match="cellar.*Swaps"):
                await cache.add("k", 1)

    asyncio.run(main())


def test_raising_a_near_counter_lengthens_neither_its_life_nor_how_long_it_may_stand_in():
    async def main():
        wanted = {"tiers": ["memory"], "ttl": 100, "stale": 50, "refresh_ahead": 0.5}
        async with opened(document(all=wanted), clock=FakeClock()) as cache:
            await cache.increment("n", 1)
            before = cache._house.nears["memory"].get("n")
            ends = before.fresh_until + before.terms.stale
            fresh = await cache.ttl("n")
            for _ in range(3):
                await cache.increment("n", 1)
            after = cache._house.nears["memory"].get("n")
            assert (after.value, await cache.ttl("n")) == (4, fresh)
            assert after.fresh_until + after.terms.stale == ends

    asyncio.run(main())


@pytest.mark.parametrize("step", ["read", "swap", "delete"])
def test_an_increment_that_was_cancelled_leaves_no_copy_of_what_it_replaced(step):
    async def scenario(cache, clock):
        await cache.increment("k", 1)
        assert await cache.get("k") == 1
        fars = [tier(cache, name) for name in ("shelf", "cellar")]
        for far in fars:
            far.calls.clear()
        changing = asyncio.create_task(cache.increment("k", 1))
        while not any(what == step for far in fars for what, _ in far.calls):
            await asyncio.sleep(0)
        for far in fars:
            far.gate.clear()
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
        reading = asyncio.create_task(cache.get("k"))
        await asyncio.sleep(0)
        for far in fars:
            far.gate.set()
        await reading
        while any(route.flights.running for route in cache._house.routes.values()):
            await asyncio.sleep(0)
        told = await cache.get("k")
        # Adding nothing tells what the authority has.
        assert told == await cache.increment("k", 0)

    run(scenario)


@pytest.mark.parametrize("act", ["add", "increment"])
def test_what_is_added_near_alone_has_left_the_other_tiers_when_the_call_returns(act):
    async def main():
        routes = {"near": {**NEAR, "default": True}, "far": {"tiers": ["shelf"], "ttl": "1h"}}
        async with opened(document(**routes), clock=FakeClock()) as cache:
            await cache.set("k", 1, route="far")
            shelf = tier(cache, "shelf")
            shelf.gate.clear()
            adding = asyncio.create_task(getattr(cache, act)("k", 2))
            await asyncio.sleep(0.01)
            assert cache.peek("k") == 2, "near at once"
            assert not adding.done()
            shelf.gate.set()
            assert await adding in {True, 2}
            assert await cache.get("k", route="far") is None

    asyncio.run(main())


@pytest.mark.parametrize(("act", "options"), [("touch", {"ttl": 1}), ("increment", {"delta": 5})])
@pytest.mark.parametrize("cancelled", [False, True])
def test_what_is_changed_near_alone_is_served_as_it_was_by_no_other_tier(act, options, cancelled):
    async def main():
        routes = {"all": {**ALL, "default": True}, "near": NEAR}
        async with opened(document(**routes), clock=FakeClock()) as cache:
            await cache.set("k", 1)
            fars = [tier(cache, name) for name in ("shelf", "cellar")]
            for far in fars:
                far.gate.clear()
            changing = asyncio.create_task(getattr(cache, act)("k", **options, route="near"))
            await asyncio.sleep(0.01)
            assert not changing.done()
            if cancelled:
                changing.cancel()
                await asyncio.gather(changing, return_exceptions=True)
            # Evicted meanwhile; who asks now must not bring back near what is about to go.
            cache._house.nears["memory"].remove("k")
            reading = asyncio.create_task(cache.get("k"))
            await asyncio.sleep(0.01)
            for far in fars:
                far.gate.set()
            await asyncio.gather(changing, reading, return_exceptions=True)
            while any(route.flights.running for route in cache._house.routes.values()):
                await asyncio.sleep(0)
            assert cache.peek("k", "miss") == "miss"
            assert await cache.get("k", "miss") == "miss"

    asyncio.run(main())
