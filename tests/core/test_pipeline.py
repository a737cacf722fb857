"""One route: which tier answers, what is promoted, and with which life."""

import asyncio
import math

import pytest

from gated import document, opened, tier
from tiercache import NEVER, Unsupported
from tiercache.engine.codec import tombstone
from tiercache.frame import stamp_of, unpack
from tiercache.testing import FakeClock


def run(scenario, doc=None, **options):
    async def main():
        clock = FakeClock()
        async with opened(doc or document(), clock=clock, **options) as cache:
            return await scenario(cache, clock)

    return asyncio.run(main())


def head(cache, name, key="k"):
    address = f"tiercache:{key}"
    return unpack(address.encode(), tier(cache, name).standing(address))


def test_a_promoted_entry_keeps_its_stamps_in_every_tier():
    async def scenario(cache, clock):
        await cache.set("k", "v", ttl=100, tags=["t"])
        before = head(cache, "cellar")
        cache._empty()
        tier(cache, "shelf").rows.clear()
        clock.advance(60)
        assert await cache.get("k") == "v"
        await cache._house.fars["shelf"].idle()
        assert head(cache, "shelf") == before
        assert cache._house.nears["memory"].tags("k") == ("t",)
        assert await cache.ttl("k") == pytest.approx(40, abs=1e-3)
        clock.advance(40)
        assert await cache.get("k", "gone") == "gone"

    run(scenario)


def test_a_promotion_between_far_tiers_of_one_codec_copies_the_bytes():
    async def scenario(cache, clock):
        await cache.set("k", {"a": (1, 2)})
        frame = tier(cache, "cellar").standing("tiercache:k")
        cache._empty()
        tier(cache, "shelf").rows.clear()
        await cache.get("k")
        await cache._house.fars["shelf"].idle()
        assert tier(cache, "shelf").standing("tiercache:k") == frame
        assert cache.stats().tiers["shelf"].promotions == 1

    run(scenario)


def test_a_promotion_into_a_tier_of_another_codec_is_encoded_anew():
    doc = document()
    doc["tier"]["shelf"]["serializer"] = "json"

    async def scenario(cache, clock):
        await cache.set("k", [1, 2])
        cache._empty()
        tier(cache, "shelf").rows.clear()
        assert await cache.get("k") == [1, 2]
        await cache._house.fars["shelf"].idle()
        assert head(cache, "shelf").serializer == "json"
        assert head(cache, "cellar").serializer == "msgpack"

    run(scenario, doc)


def test_a_promotion_never_overwrites_something_newer():
    async def scenario(cache, clock):
        await cache.set("k", "old")
        old = tier(cache, "cellar").rows["tiercache:k"]
        clock.advance(1)
        await cache.set("k", "new")
        tier(cache, "cellar").rows["tiercache:k"] = old
        shelf = tier(cache, "shelf")
        newer = shelf.rows.pop("tiercache:k")
        cache._empty()
        shelf.gate.clear()
        reader = asyncio.create_task(cache.get("k"))
        for _ in range(5):
            await asyncio.sleep(0)
        shelf.rows["tiercache:k"] = newer
        shelf.gate.set()
        assert await reader == "old"
        await cache._house.fars["shelf"].idle()
        cache._empty()
        assert await cache.get("k") == "new"

    run(scenario)


def test_a_tombstone_hides_older_entries_of_farther_tiers():
    async def scenario(cache, clock):
        await cache.set("k", "v")
        cache._empty()
        stamp = cache._clock.stamp()
        frame = tombstone(b"tiercache:k", stamp, stamp + 60_000_000)
        tier(cache, "shelf").rows["tiercache:k"] = (frame, NEVER)
        assert await cache.get("k", "gone") == "gone"
        assert not await cache.exists("k")
        assert [key async for key in cache.keys()] == []
        tier(cache, "shelf").rows["tiercache:k"] = (tombstone(b"tiercache:k", 1, NEVER), NEVER)
        assert await cache.get("k") == "v"

    run(scenario)


def test_a_near_tier_of_short_life_does_not_shorten_the_entry():
    doc = document()
    doc["tier"]["memory"]["max_ttl"] = "10s"

    async def scenario(cache, clock):
        await cache.set("k", "v", ttl=100)
        assert await cache.ttl("k") == pytest.approx(100, abs=1e-3)
        clock.advance(11)
        assert cache.peek("k") is None
        assert await cache.get("k") == "v"
        assert await cache.ttl("k") == pytest.approx(89, abs=1e-3)

    run(scenario, doc)


def test_a_far_tier_of_short_life_clamps_its_copy_alone():
    doc = document()
    doc["tier"]["shelf"]["max_ttl"] = "10s"

    async def scenario(cache, clock):
        await cache.set("k", "v", ttl=100)
        assert tier(cache, "shelf").rows["tiercache:k"][1] == int((clock() + 10) * 1e6)
        assert head(cache, "shelf").fresh_until == int((clock() + 100) * 1e6)

    run(scenario, doc)


def test_a_step_back_of_the_wall_clock_never_lengthens_a_near_life():
    async def scenario(cache, clock):
        await cache.set("k", "v", ttl=10)
        cache._empty()
        elapsed = FakeClock(50.0)
        cache._clock.monotonic = elapsed
        clock.advance(-3600)
        assert await cache.get("k") == "v"
        elapsed.advance(10.01)
        assert cache.peek("k") is None

    run(scenario)


def test_an_entry_without_expiry_has_none_in_any_tier():
    async def scenario(cache, clock):
        for ttl in ("never", math.inf):
            await cache.set("k", "v", ttl=ttl)
            assert head(cache, "cellar").fresh_until == NEVER
            cache._empty()
            clock.advance(1e9)
            assert await cache.get("k") == "v"
            assert await cache.ttl("k") == math.inf

    run(scenario)


def test_a_stale_entry_is_kept_but_is_no_hit():
    async def scenario(cache, clock):
        await cache.set("k", "v", ttl=10, stale=100)
        clock.advance(11)
        assert await cache.get("k", "miss") == "miss"
        assert not await cache.exists("k")
        assert await cache.ttl("k") is None
        assert [key async for key in cache.keys()] == []
        assert tier(cache, "shelf").standing("tiercache:k") is not None

    run(scenario)


def test_an_explicit_set_wins_over_a_stored_stamp_from_the_future():
    async def scenario(cache, clock):
        clock.advance(3600)
        await cache.set("k", "ahead")
        clock.advance(-3600)
        cache._clock._last = 0
        await cache.set("k", "mine")
        cache._empty()
        assert await cache.get("k") == "mine"
        raised = stamp_of(tier(cache, "shelf").standing("tiercache:k"))
        assert cache._clock.stamp() > raised

    run(scenario)


def test_a_key_that_is_set_on_another_route_leaves_the_tiers_of_the_first():
    doc = document(a={"tiers": ["shelf"], "default": True}, b={"tiers": ["memory", "cellar"]})

    async def scenario(cache, clock):
        await cache.set("k", 1, route="a")
        await cache.set("k", 2, route="b")
        assert tier(cache, "shelf").rows == {}
        assert await cache.get("k", route="b") == 2
        assert await cache.get("k", route="a") is None
        await cache.set("k", 3, route="a")
        assert tier(cache, "cellar").rows == {}
        assert cache._house.nears["memory"].get("k") is None

    run(scenario, doc)


def test_a_key_travels_on_the_first_route_whose_globs_match():
    doc = document(
        one={"tiers": ["memory"], "keys": ["a:*", "b:?"], "ttl": 1},
        two={"tiers": ["memory"], "keys": ["a:b*"], "ttl": 2},
        rest={"tiers": ["memory"], "default": True, "ttl": 3},
    )

    async def scenario(cache, clock):
        for key, ttl in {"a:b": 1, "b:1": 1, "b:12": 3, "x": 3}.items():
            await cache.set(key, 0)
            assert await cache.ttl(key) == ttl
        with pytest.raises(ValueError, match='no route "three" is declared; there are: one, two, rest'):
            await cache.get("missing", route="three")

    run(scenario, doc)


def test_clear_is_refused_where_a_tier_can_neither_drop_nor_list():
    doc = document()
    doc["tier"]["cellar"]["type"] = "gated"

    async def scenario(cache, clock):
        await cache.set("k", 1)
        with pytest.raises(Unsupported, match="cellar"):
            await cache.clear()
        assert cache.peek("k") == 1

    run(scenario, doc)


@pytest.mark.parametrize("drop", ["delete", "clear", "increment"])
def test_a_read_during_a_drop_brings_nothing_back_into_a_tier_that_has_dropped_already(drop):
    async def scenario(cache, clock):
        # The shelf drops at once, the cellar is slow: a read in between misses in the shelf, finds the
        # old value in the cellar, and must not copy it back.
        await cache.set("k", 1)
        shelf, cellar = tier(cache, "shelf"), tier(cache, "cellar")
        if drop != "increment":
            shelf.rows.clear()
        cache._empty()
        cellar.gate.clear()
        dropping = asyncio.create_task(
            {
                "delete": lambda: cache.delete("k"),
                "clear": cache.clear,
                "increment": lambda: cache.increment("k"),
            }[drop]()
        )
        for _ in range(20):
            await asyncio.sleep(0)
        if drop == "increment":
            shelf.rows.clear()
        reader = asyncio.create_task(cache.get("k"))
        for _ in range(20):
            await asyncio.sleep(0)
        cellar.gate.set()
        await dropping
        await reader
        await cache._house.fars["shelf"].idle()
        assert shelf.living() == set()
        assert cache.peek("k") is None
        assert await cache.get("k") is None

    run(scenario)


def test_keys_lists_each_fresh_key_once_from_all_tiers():
    async def scenario(cache, clock):
        for key in ("user:1", "user:2", "user:10", "other"):
            await cache.set(key, key)
        await cache.set("user:gone", 1, ttl=1)
        cache._house.nears["memory"].remove("user:2")
        clock.advance(2)
        assert sorted([key async for key in cache.keys("user:*")]) == ["user:1", "user:10", "user:2"]
        assert sorted([key async for key in cache.keys("user:?")]) == ["user:1", "user:2"]
        assert sorted([key async for key in cache.keys()]) == ["other", "user:1", "user:10", "user:2"]

    run(scenario)


def test_patterns_wrap_loads_and_saves_and_see_reads_in_the_order_of_the_document():
    doc = document(all={"tiers": ["memory"], "patterns": ["outer", "noted"]})
    doc["pattern"] = {"outer": {"type": "noted", "name": "outer"}}

    async def scenario(cache, clock):
        import noting

        noting.LOG.clear()
        await cache.set("k", 1)
        await cache.get("k")
        await cache.get("absent")
        await cache.get_or_set("l", lambda: 2)
        assert noting.LOG == [
            ("outer", "save", "k"),
            ("noted", "save", "k"),
            ("outer", "seen", "k", True),
            ("noted", "seen", "k", True),
            ("outer", "seen", "absent", False),
            ("noted", "seen", "absent", False),
            ("outer", "seen", "l", False),
            ("noted", "seen", "l", False),
            ("outer", "load", "l"),
            ("noted", "load", "l"),
        ]

    run(scenario, doc, plugins=["noting"])


def test_a_set_that_was_cancelled_lets_no_read_keep_what_it_replaces():
    async def main():
        wanted = document(all={"tiers": ["memory", "shelf"], "ttl": "1h"})
        async with opened(wanted, clock=FakeClock()) as cache:
            shelf = tier(cache, "shelf")
            await cache.set("k", "old")
            shelf.gate.clear()
            setting = asyncio.create_task(cache.set("k", "new"))
            await asyncio.sleep(0.01)
            setting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await setting
            cache._house.nears["memory"].remove("k")
            reading = asyncio.create_task(cache.get("k"))
            await asyncio.sleep(0.01)
            shelf.gate.set()
            assert await reading in {"old", "new"}
            for far in cache._house.fars.values():
                await far.idle()
            assert cache.peek("k") in {None, "new"}
            assert await cache.get("k") == "new"

    asyncio.run(main())
