"""What `cache.stats()` counts: by tier, by route and tier, by pattern, and between two snapshots."""

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st

import gated
from gated import document, opened
from tiercache import Stats
from tiercache.testing import FakeClock

TWO_ROUTES = {
    "tier": {"memory": {"type": "memory", "max_entries": 1000}, "shelf": {"type": "able"}},
    "route": {
        "pages": {"tiers": ["memory", "shelf"], "keys": ["page:*"], "ttl": "1h"},
        "rest": {"tiers": ["memory", "shelf"], "default": True, "ttl": "1h"},
    },
    "telemetry": {"patterns": ["user:*"]},
}


def test_reads_are_counted_by_route_and_tier_and_outcome():
    async def use():
        async with opened(TWO_ROUTES) as cache:
            await cache.set("page:1", 1)
            await cache.set("user:1", 1)
            for _ in range(3):
                await cache.get("page:1")
            await cache.get("user:1")
            await cache.get("user:2")
            for near in cache._house.nears.values():
                near.clear()
                near.work(0, 10)
            cache._bind()
            await cache.get("page:1")
            return cache.stats()

    stats = asyncio.run(use())
    pages, rest = stats.routes["pages"].tiers, stats.routes["rest"].tiers
    assert (pages["memory"].hits, pages["memory"].misses) == (3, 1)
    assert (pages["shelf"].hits, pages["shelf"].misses) == (1, 0)
    assert (rest["memory"].hits, rest["memory"].misses) == (1, 1)
    assert (rest["shelf"].hits, rest["shelf"].misses) == (0, 1)
    assert stats.tiers["memory"].promotions == 1
    assert list(stats.patterns) == ["user:*", "page:*", "other"]
    assert stats.patterns["user:*"].misses == 1


def test_a_tier_that_is_away_is_told_apart_from_a_miss():
    async def use():
        async with opened(document()) as cache:
            gated.tier(cache, "shelf").error = OSError("away")
            await cache.get("a")
            return cache.stats()

    stats = asyncio.run(use())
    shelf, cellar = stats.routes["all"].tiers["shelf"], stats.routes["all"].tiers["cellar"]
    assert (shelf.misses, shelf.errors) == (0, 1)
    assert (cellar.misses, cellar.errors) == (1, 0)
    assert stats.tiers["shelf"].calls == 1


def test_bytes_calls_and_loads_are_counted():
    async def use():
        async with opened(document()) as cache:
            await cache.get_or_set("a", lambda: "x" * 1000)
            await cache.set("b", "y")
            for near in cache._house.nears.values():
                near.clear()
            cache._bind()
            await cache.get("a")
            return cache.stats()

    stats = asyncio.run(use())
    shelf = stats.tiers["shelf"]
    assert shelf.bytes_written > 1000
    assert 1000 < shelf.bytes_read < shelf.bytes_written
    assert shelf.calls >= 3
    assert shelf.seconds > 0
    assert stats.patterns["other"].loads == stats.routes["all"].loads == 1


def test_evictions_tell_their_reason():
    async def use():
        small = document()
        small["tier"]["memory"]["max_entries"] = 10
        async with opened(small) as cache:
            for i in range(25):
                await cache.set(f"k{i}", i)
            return cache.stats()

    assert asyncio.run(use()).tiers["memory"].evictions["room"] >= 15


def test_invalidations_are_counted_by_what_was_asked_for():
    async def use():
        async with opened({**document(), "route": {"all": {"tiers": ["memory"]}}}) as cache:
            await cache.invalidate(tags=["a", "b"], prefix="c")
            await cache.invalidate(match="d?e")
            await cache.clear()
            return cache.stats()

    assert asyncio.run(use()).invalidations == {"tags": 1, "prefix": 1, "match": 1, "clear": 1}


def test_the_difference_of_two_snapshots_covers_what_is_between_them():
    clock = FakeClock()

    async def use():
        async with opened(document(), clock=clock) as cache:
            await cache.set("a", 1)
            await cache.get("a")
            before = cache.stats()
            clock.advance(10)
            await cache.get("a")
            await cache.get("a")
            await cache.get("absent")
            return before, cache.stats()

    before, after = asyncio.run(use())
    between = after.since(before)
    assert between.seconds == 10
    assert (between.hits, between.misses) == (2, 1)
    assert between.hit_rate == 2 / 3
    assert between.per_second(between.hits) == 0.2
    assert between.tiers["memory"].own == after.tiers["memory"].own
    assert between.tiers["shelf"].breaker == "closed"
    assert between.routes["all"].sets == 0
    assert after.since(after).hits == 0
    assert after.since(after).per_second(5) == 0


def test_a_snapshot_is_ready_for_json():
    async def use():
        async with opened(TWO_ROUTES) as cache:
            await cache.get("a")
            return cache.stats()

    told = json.loads(json.dumps(asyncio.run(use()).as_dict()))
    assert told["routes"]["rest"]["tiers"]["shelf"]["misses"] == 1


def test_near_hits_of_a_route_stay_counted_when_everything_is_dropped():
    async def use():
        async with opened(TWO_ROUTES) as cache:
            await cache.set("page:1", 1)
            await cache.get("page:1")
            before = cache.stats()
            await cache.clear()
            return before, cache.stats()

    for stats in asyncio.run(use()):
        assert stats.routes["pages"].tiers["memory"].hits == 1
        assert stats.patterns["page:*"].hits == 1


@settings(deadline=None, max_examples=8)
@given(
    st.lists(st.tuples(st.sampled_from(["get", "set", "delete", "clear"]), st.integers(0, 30)), max_size=60)
)
def test_no_count_ever_falls(steps):
    async def use():
        tight = {**TWO_ROUTES, "tier": {**TWO_ROUTES["tier"], "memory": {"type": "memory", "max_entries": 8}}}
        async with opened(tight) as cache:
            before = cache.stats()
            for act, number in steps:
                key = f"page:{number}" if number % 2 else f"user:{number}"
                if act == "set":
                    await cache.set(key, number)
                elif act == "clear":
                    await cache.clear()
                else:
                    await getattr(cache, act)(key)
                after = cache.stats()
                _rises(after.since(before).as_dict())
                before = after

    asyncio.run(use())


def _rises(told):
    for name, value in told.items():
        if isinstance(value, dict):
            if name != "own":
                _rises(value)
        elif not isinstance(value, (str, bool)):
            assert value >= 0, name


def test_stats_are_typed():
    assert Stats(hits=3, misses=1, tiers={}, routes={}).hit_rate == 0.75
