"""What the kernel does for patterns: it loads where they know how, lets them work, and counts by route."""

from __future__ import annotations

import asyncio
import logging

import pytest

import sourced
from gated import opened
from tiercache import Cache, CacheClosed, cached_by
from tiercache.testing import FakeClock


def document(patterns, **route):
    return {
        "tier": {"memory": {"type": "memory", "policy": "fifo"}, "shelf": {"type": "able"}},
        "pattern": patterns,
        "route": {
            "all": {
                "tiers": ["memory", "shelf"],
                "patterns": list(patterns),
                "ttl": 100,
                "default": True,
                **route,
            },
            "other": {"tiers": ["memory"], "keys": ["other:*"]},
        },
    }


def run(scenario, patterns, **route):
    sourced.LOG.clear()
    clock = FakeClock()

    async def main():
        async with opened(document(patterns, **route), clock=clock, plugins=["sourced"]) as cache:
            return await scenario(cache, clock)

    return asyncio.run(main())


SOURCE = {"source": {"type": "source"}}


def test_a_read_loads_what_a_pattern_supplies_and_stores_it():
    async def scenario(cache, clock):
        assert await cache.get("s:1") == "s:1 1"
        assert await cache.get("s:1") == "s:1 1"
        assert cache.peek("s:1") == "s:1 1"
        assert await cache.get("elsewhere", "default") == "default"
        assert await cache.get("other:s", "default") == "default"
        assert await cache.get("s:none", "default") == "default"
        assert not await cache.exists("s:none")
        clock.advance(101)
        assert await cache.get("s:1") == "s:1 2"

    run(scenario, SOURCE)


def test_many_reads_at_once_load_a_supplied_key_once():
    async def scenario(cache, clock):
        assert await asyncio.gather(*(cache.get("s:1") for _ in range(50))) == ["s:1 1"] * 50
        assert await cache.get_many(["s:1", "s:2", "s:none", "x"]) == {"s:1": "s:1 1", "s:2": "s:2 1"}
        assert sourced.LOG.count(("load", "s:1")) == 1

    run(scenario, SOURCE)


def test_threads_load_what_a_pattern_supplies():
    async def scenario(cache, clock):
        assert await asyncio.to_thread(cache.sync.get, "s:1") == "s:1 1"
        assert await asyncio.to_thread(cache.sync.get_many, ["s:1", "s:2"]) == {
            "s:1": "s:1 1", "s:2": "s:2 1",
        }  # fmt: skip

    run(scenario, SOURCE)


@pytest.mark.parametrize("copy", [False, True])
def test_a_plain_read_starts_the_refresh_that_a_pattern_asks_for(copy):
    async def scenario(cache, clock):
        await cache.set("s:1", "set")
        await cache.set("x", "set")
        clock.advance(79)
        assert await cache.get("s:1") == "set"
        clock.advance(2)
        assert await cache.get("s:1") == "set"
        assert await cache.get("x") == "set"
        while cache.stats().routes["all"].loads < 1:
            await asyncio.sleep(0)
        assert sourced.LOG[1:] == [("load", "s:1")]
        assert await cache.get("s:1") == "s:1 1"
        assert cache.stats().routes["all"].refreshes == 1
        clock.advance(30)
        assert await cache.get("x", "gone") == "gone"
        # It only keeps what is there; what is gone is not its business.
        clock.advance(100)
        assert await cache.get("s:1", "gone") == "gone"

    run(scenario, {"source": {"type": "source", "on_miss": False, "ahead": 0.8}}, copy=copy)


def test_tags_that_a_pattern_adds_stand_beside_those_of_the_call():
    async def scenario(cache, clock):
        for tag in ("more", "mine"):
            assert await cache.get_or_set("k", lambda: 1, tags=["mine"]) == 1
            await cache.invalidate(tags=[tag])
            assert await cache.get("k", "gone") == "gone"

    run(scenario, {"labels": {"type": "labels"}}, tiers=["memory"])


def test_patterns_work_while_the_cache_is_open_and_end_before_it_closes(caplog):
    patterns = {
        "first": {"type": "source"}, "second": {"type": "source", "broken": "close"},
    }  # fmt: skip

    async def scenario(cache, clock):
        assert sourced.LOG == [("first", "open", True), ("second", "open", True)]

    with caplog.at_level(logging.WARNING, "tiercache.patterns"):
        run(scenario, patterns)
    assert sourced.LOG[2:] == [("second", "close"), ("first", "close")]
    assert "did not close cleanly: OSError: no end" in caplog.text


def test_a_pattern_that_can_t_begin_stops_the_start_and_everything_is_closed():
    async def scenario(cache, clock):
        raise AssertionError

    with pytest.raises(OSError, match="no source"):
        run(scenario, {"first": {"type": "source"}, "second": {"type": "source", "broken": "open"}})
    assert sourced.LOG[2:] == [("second", "close"), ("first", "close")]


def test_hits_are_counted_by_route_also_of_what_is_gone():
    async def scenario(cache, clock):
        await cache.set("k", 1)
        await cache.set("other:k", 1)
        for _ in range(3):
            await cache.get("k")
        await cache.get("other:k")
        await cache.delete("k")
        await cache.set("far", 1)
        cache._house.nears["memory"].remove("far")
        await cache.get("far")
        await cache.get("far")
        stats = cache.stats()
        assert {name: route.hits for name, route in stats.routes.items()} == {"all": 5, "other": 1}
        assert stats.hits == 6

    run(scenario, {})


def test_the_hottest_keys_are_those_that_were_read_most():
    async def scenario(cache, clock):
        for at, key in enumerate(["a", "b", "other:c", "d"]):
            await cache.set(key, at)
            for _ in range(at):
                await cache.get(key)
        assert cache.hottest(2) == [("d", "all", 3), ("other:c", "other", 2)]
        assert [hot.key for hot in cache.hottest(9)] == ["d", "other:c", "b"]
        return cache

    cache = run(scenario, {})
    with pytest.raises(CacheClosed):
        cache.hottest(1)


# Functions that stand before their cache


class Found:
    def __init__(self) -> None:
        self.caches = {}

    def near(self):
        return self.caches.get("now")

    async def cache(self):
        if "now" not in self.caches:
            self.caches["now"] = await Cache.open(MEMORY).start()
        return self.caches["now"]

    def face(self):
        return self.caches["now"].sync


MEMORY = {"tier": {"memory": {"type": "memory"}}, "route": {"all": {"tiers": ["memory"]}}}


def test_a_decorated_function_finds_its_cache_when_it_is_called():
    found = Found()
    calls = []

    @cached_by(found, key="k:{x}")
    async def load(x):
        calls.append(x)
        return x

    class Rows:
        @cached_by(found, key="row:{x}")
        async def row(self, x):
            calls.append(("row", x))
            return x

    assert load.key_for(1) == "k:1"
    assert "now" not in found.caches

    async def main():
        for _ in range(3):
            assert await load(1) == 1
            assert await Rows().row(2) == 2
        assert await load.invalidate(1)
        assert await load(1) == 1
        assert await load.refresh(1) == 1
        await found.caches.pop("now").close()

    asyncio.run(main())
    assert calls == [1, ("row", 2), 1, 1]
    asyncio.run(main())
    assert calls == [1, ("row", 2), 1, 1] * 2


def test_a_decorated_sync_function_finds_the_cache_of_another_thread():
    found = Found()
    calls = []

    @cached_by(found, key="k:{x}")
    def load(x):
        calls.append(x)
        return x

    async def main():
        async with await found.cache():
            for _ in range(2):
                assert await asyncio.to_thread(load, 1) == 1
            assert load(1) == 1
            assert load(2) == 2
            assert await asyncio.to_thread(load.invalidate, 1)

    asyncio.run(main())
    assert calls == [1, 2]
