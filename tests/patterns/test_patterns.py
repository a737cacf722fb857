"""Each pattern in Python and as a stage of a route: what is read, what is written, what a failure leaves."""

from __future__ import annotations

import asyncio
import logging

import pytest

import storehouse
from tiercache import MISSING, Cache, ConfigError, Unserializable
from tiercache.testing import FakeClock
from tiercache_plugins.advanced import AdvancedCachingSystem, CacheConfig, CacheType
from tiercache_plugins.patterns import (
    CacheAsidePattern,
    CacheWithInvalidationPattern,
    CacheWithPrefetchPattern,
    ReadThrough,
    RefreshAhead,
    WriteThroughPattern,
)


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    storehouse.reset()
    monkeypatch.chdir(tmp_path)


CONFIG = CacheConfig(disk_cache_dir=None)
ON_DISK = CacheConfig()


def of_system(scenario, config=CONFIG):
    """Run *scenario* with a system of memory, unless *config* says more."""

    async def main():
        async with AdvancedCachingSystem(config) as system:
            return await scenario(system)

    return asyncio.run(main())


def on_route(scenario, patterns, *, clock=None, tiers=("memory",)):
    """Run *scenario* with a cache that has *patterns* on its one route."""
    document = {
        "pattern": patterns,
        "route": {"all": {"tiers": list(tiers), "patterns": list(patterns), "ttl": 100}},
    }

    async def main():
        async with Cache.open(document, clock=clock) as cache:
            return await scenario(cache)

    return asyncio.run(main())


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to be")


# Cache-aside


def test_cache_aside_loads_once_and_reads_after():
    async def scenario(system):
        pattern = CacheAsidePattern(system, CONFIG)
        storehouse.ROWS["user:1"] = {"name": "Ann"}
        assert (
            await asyncio.gather(*(pattern.get("user:1", storehouse.load, "user:1") for _ in range(20)))
            == [{"name": "Ann"}] * 20
        )
        assert await pattern.get("user:1", storehouse.load_slowly, "user:1") == {"name": "Ann"}
        assert storehouse.LOADS == ["user:1"]
        assert await pattern.invalidate("user:1")
        assert await pattern.get("user:1", storehouse.load_slowly, "user:1") == {"name": "Ann"}
        assert storehouse.LOADS == ["user:1"] * 2
        storehouse.BROKEN.append(OSError("down"))
        with pytest.raises(OSError, match="down"):
            await pattern.get("user:2", storehouse.load, "user:2")
        storehouse.BROKEN.append(OSError("down"))
        assert await pattern.get("user:2", storehouse.load, "user:2", fallback="nobody") == "nobody"

    of_system(scenario)


def test_cache_aside_changes_the_source_and_drops_the_key():
    async def scenario(system):
        pattern = CacheAsidePattern(system, CONFIG, cache_type=CacheType.STATIC)
        await system.set("k", "old", CacheType.STATIC)
        storehouse.BROKEN.append(OSError("down"))
        with pytest.raises(OSError, match="down"):
            await pattern.update("k", "new", storehouse.save)
        assert await system.get("k", CacheType.STATIC) == "old"
        await pattern.update("k", "new", storehouse.save_slowly)
        assert await system.get("k", CacheType.STATIC) is None
        assert await pattern.get("k", storehouse.load, "k") == "new"

    of_system(scenario)


def test_cache_aside_on_a_route():
    async def scenario(cache):
        await cache.get_or_set("k", lambda: "old")
        storehouse.BROKEN.append(OSError("down"))
        with pytest.raises(OSError, match="down"):
            await cache.set("k", "new")
        assert await cache.get("k") == "old"
        await cache.set("k", "new")
        assert storehouse.WRITES == [("k", "new")]
        assert await cache.get("k") is None
        assert await cache.get_or_set("k", lambda: storehouse.load("k")) == "new"

    on_route(scenario, {"aside": {"type": "cache_aside", "writer": "storehouse:save"}})


# Write-through


def both_ways(test):
    """Run *test* with `put` and a cache, by the pattern in Python and by the stage."""

    @pytest.mark.parametrize("way", ["python", "toml"])
    def wrapped(way):
        async def in_python(system):
            pattern = WriteThroughPattern(system, CONFIG, writer=storehouse.save)
            await test(pattern.set, system.cache)

        async def by_toml(cache):
            await test(cache.set, cache)

        if way == "python":
            of_system(in_python, ON_DISK)
        else:
            through = {"through": {"type": "write_through", "writer": "storehouse:save"}}
            on_route(by_toml, through, tiers=["memory", "sqlite"])

    return wrapped


@both_ways
async def test_write_through_stores_in_the_source_and_in_the_cache(put, cache):
    await put("k", "v")
    assert storehouse.WRITES == [("k", "v")]
    assert await cache.get("k") == "v"


@both_ways
async def test_a_failing_source_leaves_the_cache_as_it_was(put, cache):
    await put("k", "old")
    storehouse.BROKEN.append(OSError("down"))
    with pytest.raises(OSError, match="down"):
        await put("k", "new")
    assert await cache.get("k") == "old"


@both_ways
async def test_where_the_cache_can_t_take_what_the_source_took_the_key_is_dropped(put, cache):
    await put("k", "old")
    odd = object()
    with pytest.raises(Unserializable):
        await put("k", odd)
    assert storehouse.ROWS["k"] is odd
    assert await cache.get("k", "gone") == "gone"


@both_ways
async def test_a_caller_who_is_cancelled_while_the_source_writes_leaves_no_old_value(put, cache):
    await put("k", "old")
    gate = asyncio.Event()
    storehouse.GATES.append(gate)
    task = asyncio.ensure_future(put("k", "new"))
    while storehouse.GATES:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await cache.get("k", "gone") == "gone"


@both_ways
async def test_writers_of_one_key_take_turns_so_that_source_and_cache_agree(put, cache):
    gate = asyncio.Event()
    storehouse.GATES.append(gate)
    first = asyncio.ensure_future(put("k", 1))
    while storehouse.GATES:
        await asyncio.sleep(0)
    second = asyncio.ensure_future(put("k", 2))
    for _ in range(20):
        await asyncio.sleep(0)
    assert storehouse.WRITES == []
    await put("other", 1)
    gate.set()
    await asyncio.gather(first, second)
    assert storehouse.WRITES == [("other", 1), ("k", 1), ("k", 2)]
    assert storehouse.ROWS["k"] == await cache.get("k") == 2


def test_write_through_removes_from_both():
    async def scenario(system):
        pattern = WriteThroughPattern(system, CONFIG)
        await pattern.set("k", 1, storehouse.save_slowly)
        await pattern.delete("k", storehouse.remove)
        assert storehouse.ROWS == {}
        assert await pattern.get("k") is None
        with pytest.raises(TypeError, match="writer"):
            await pattern.set("k", 1)

    of_system(scenario)


# Invalidation


def test_what_depends_on_something_goes_with_it():
    async def scenario(system):
        pattern = CacheWithInvalidationPattern(system, CONFIG)
        await pattern.set_with_dependencies("user_profile:123", 1, ["user:123", "profile:123"])
        await pattern.set_with_dependencies("user_profile:124", 2, ["user:124"])
        await pattern.invalidate_dependencies("user:123")
        assert await pattern.get("user_profile:123") is None
        assert await pattern.get("user_profile:124") == 2
        assert await pattern.get_with_dependencies("page", storehouse.load_slowly, ["a"], "x") is MISSING

        async def load():
            await pattern.invalidate_dependencies("a")
            return "old"

        assert await pattern.get_with_dependencies("page", load, ["a"]) == "old"
        assert await pattern.get("page") is None

    of_system(scenario)


RULES = {
    "deps": {
        "type": "invalidation",
        "dependencies": {"profile:*:*": ["user:{1}", "lang:{2}"], "all:*": ["user:all"]},
        "invalidates": ["user:*"],
    }
}


@pytest.mark.parametrize("how", ["set", "load"])
def test_dependencies_by_rules_on_a_route(how):
    async def scenario(cache):
        async def store(key):
            if how == "set":
                await cache.set(key, 1, tags=["mine"])
            else:
                await cache.get_or_set(key, lambda: 1, tags=["mine"])

        async def there():
            return {key async for key in cache.keys()}

        for key in ("profile:1:en", "profile:1:de", "profile:2:en", "all:1"):
            await store(key)
        await cache.set("user:1", 1)
        assert await there() == {"profile:2:en", "all:1", "user:1"}
        await cache.invalidate(tags=["lang:en"])
        assert await there() == {"all:1", "user:1"}
        await cache.invalidate(tags=["mine"])
        assert await there() == {"user:1"}

    on_route(scenario, RULES)


def test_a_key_that_carries_its_own_name_survives_being_stored():
    async def scenario(cache):
        await cache.set("user:1", 1, tags=["user:1"])
        assert await cache.get("user:1") == 1
        await cache.set("user:1", 2, tags=["user:1"])
        assert await cache.get("user:1") == 2

    on_route(scenario, RULES)


@pytest.mark.parametrize(
    ("pattern", "tag"),
    [("user:*", "{2}"), ("user:*", "{}"), ("user:*", "{name}"), ("user:?", "x"), ("u", "{1}")],
)
def test_rules_that_can_t_work_are_refused(pattern, tag):
    with pytest.raises(ConfigError, match="accepted|stands for"):
        on_route(None, {"deps": {"type": "invalidation", "dependencies": {pattern: [tag]}}})


# Read-through


def test_read_through_loads_what_is_registered():
    async def scenario(system):
        storehouse.ROWS |= {"user:1": "Ann", "page:1": "home"}
        pattern = ReadThrough(system, CONFIG)
        pattern.register("user:*", storehouse.load)
        pattern.register("page:*", storehouse.load_slowly)
        for _ in range(2):
            assert await pattern.get("user:1") == "Ann"
            assert await pattern.get("page:1") == "home"
            assert await pattern.get("other", "default") == "default"
        assert storehouse.LOADS == ["user:1", "page:1"]
        assert await pattern.get("user:9", "nobody") == "nobody"
        storehouse.BROKEN.append(OSError("down"))
        with pytest.raises(OSError, match="down"):
            await pattern.get("user:8")

    of_system(scenario)


def test_read_through_on_a_route():
    async def scenario(cache):
        storehouse.ROWS |= {"user:1": "Ann", "page:1": "home"}
        for _ in range(2):
            assert await cache.get("user:1") == "Ann"
            assert await cache.get("page:1") == "home"
            assert await cache.get("other", "default") == "default"
        assert storehouse.LOADS == ["user:1", "page:1"]
        assert await cache.get("user:9", "nobody") == "nobody"

    loaders = {"user:*": "storehouse:load", "page:*": "storehouse:load_slowly"}
    on_route(scenario, {"read": {"type": "read_through", "loaders": loaders}})


# Refresh-ahead


def test_refresh_ahead_loads_anew_what_will_soon_expire():
    clock = FakeClock()

    async def main():
        async with Cache.open({"route": {"all": {"tiers": ["memory"]}}}, clock=clock) as cache:
            pattern = RefreshAhead(cache, ttl=100, share=0.8)
            pattern.register("user:*", storehouse.load)
            storehouse.ROWS["user:1"] = "Ann"
            assert await pattern.get("user:1") == "Ann"
            storehouse.ROWS["user:1"] = "Bob"
            clock.advance(79)
            assert await pattern.get("user:1") == "Ann"
            assert storehouse.LOADS == ["user:1"]
            clock.advance(2)
            assert await asyncio.gather(*(pattern.get("user:1") for _ in range(5))) == ["Ann"] * 5
            await pattern.settle()
            assert await pattern.get("user:1") == "Bob"
            assert storehouse.LOADS == ["user:1"] * 2
            clock.advance(90)
            storehouse.BROKEN.append(OSError("down"))
            assert await pattern.get("user:1") == "Bob"
            await pattern.settle()
            assert pattern.failures == 1
            assert await pattern.get("user:1") == "Bob"
            await pattern.settle()
            assert await pattern.get("none", 7) == 7

    asyncio.run(main())
    with pytest.raises(ValueError, match="between 0 and 1"):
        RefreshAhead(None, share=1.0)


def test_refresh_ahead_on_a_route():
    clock = FakeClock()

    async def scenario(cache):
        storehouse.ROWS["user:1"] = "Bob"
        await cache.set("user:1", "Ann")
        clock.advance(79)
        assert await cache.get("user:1") == "Ann"
        clock.advance(2)
        assert await cache.get("user:1") == "Ann"
        await until(lambda: cache.peek("user:1") == "Bob")
        assert storehouse.LOADS == ["user:1"]
        assert await cache.get("user:2") is None

    loaders = {"user:*": "storehouse:load"}
    on_route(scenario, {"ahead": {"type": "refresh_ahead", "loaders": loaders}}, clock=clock)


# Prefetch


def test_prefetch_runs_after_so_many_reads_of_a_prefix():
    async def scenario(system):
        pattern = CacheWithPrefetchPattern(system, CONFIG)
        await pattern.register_prefetch_rule("user:", storehouse.neighbours, threshold=3)
        await system.get("user:1")
        await system.get("page:1")
        await pattern.get("user:2")
        assert pattern.runs == 0
        await system.get_or_set("user:3", lambda: 1)
        await pattern.settle()
        assert storehouse.LOADS == ["near user:3"]
        assert await system.get("user:124") == "Jane"
        assert await system.get("user:125") == "Bob"
        storehouse.BROKEN.append(OSError("down"))
        await system.get("user:1")
        await pattern.settle()
        assert (pattern.runs, pattern.failures) == (2, 1)

    of_system(scenario)


def test_prefetch_with_a_plain_cache_counts_its_own_reads():
    async def main():
        async with Cache.open({"route": {"all": {"tiers": ["memory"]}}}) as cache:
            pattern = CacheWithPrefetchPattern(cache)
            await pattern.register_prefetch_rule("user:", lambda: {"user:2": 2}, threshold=1)
            await pattern.get("user:1")
            await pattern.settle()
            assert await cache.get("user:2") == 2
            with pytest.raises(ValueError, match="1 or more"):
                await pattern.register_prefetch_rule("user:", dict, threshold=0)

    asyncio.run(main())


def test_prefetch_can_be_switched_off():
    config = CacheConfig(cache_preloading=False, disk_cache_dir=None)

    async def scenario(system):
        pattern = CacheWithPrefetchPattern(system, config)
        await pattern.register_prefetch_rule("user:", storehouse.neighbours, threshold=1)
        await pattern.get("user:1")
        await system.get("user:1")
        await pattern.settle()
        assert storehouse.LOADS == []

    of_system(scenario, config)


def test_prefetch_on_a_route(caplog):
    async def scenario(cache):
        await cache.get("user:1")
        await asyncio.to_thread(cache.sync.get, "user:2")
        assert storehouse.LOADS == []
        cache.peek("user:3")
        await until(lambda: cache.peek("user:125") == "Bob")
        # That peek has counted too.
        assert storehouse.LOADS[0] == "near user:3"
        await until(lambda: not cache._house.work._begun[0]._prefetching.rules[0].running)
        storehouse.BROKEN.extend([OSError("down")] * 9)
        for _ in range(4):
            await cache.get("user:1")
        await until(lambda: "prefetch for 'user:' failed: OSError: down" in caplog.text)

    rules = {"user:": {"fetch": "storehouse:neighbours", "threshold": 3}}
    with caplog.at_level(logging.WARNING, "tiercache.patterns"):
        on_route(scenario, {"prefetch": {"type": "prefetch", "rules": rules}})


# All of them


@pytest.mark.parametrize(
    "table",
    [
        {"type": "write_through", "writer": "storehouse"},
        {"type": "write_through", "writer": "storehouse:nothing"},
        {"type": "cache_aside", "writer": "nowhere:nothing"},
        {"type": "read_through", "loaders": {"a*": "storehouse:ROWS"}},
        {"type": "read_through", "loaders": {"[a": "storehouse:load"}},
        {"type": "refresh_ahead", "loaders": {}},
        {"type": "prefetch", "rules": {"a": {"fetch": "storehouse:nothing"}}},
        {"type": "write_behind"},
        {"type": "write_behind", "writer": "storehouse:save", "batch_writer": "storehouse:save_many"},
    ],
)
def test_a_function_that_is_not_there_is_told_by_the_check(table):
    with pytest.raises(ConfigError, match="accepted|needed|at least|never closes"):
        on_route(None, {"p": table})


def test_patterns_compose_in_the_order_of_the_list():
    async def scenario(cache):
        storehouse.ROWS["profile:1:en"] = "Ann"
        assert await cache.get("profile:1:en") == "Ann"
        storehouse.BROKEN.append(OSError("down"))
        with pytest.raises(OSError, match="down"):
            await cache.set("user:1", 1)
        # The source comes first in the list: what it refused has invalidated nothing.
        assert await cache.get("profile:1:en") == "Ann"
        assert storehouse.LOADS == ["profile:1:en"]
        storehouse.ROWS["profile:1:en"] = "Bob"
        await cache.set("user:1", 1)
        assert await cache.get("profile:1:en") == "Bob"

    on_route(
        scenario,
        {
            "through": {"type": "write_through", "writer": "storehouse:save"},
            **RULES,
            "read": {"type": "read_through", "loaders": {"profile:*": "storehouse:load"}},
        },
    )


def test_listed_the_other_way_round_the_other_comes_first():
    async def scenario(cache):
        await cache.set("profile:1:en", 1)
        storehouse.BROKEN.append(OSError("down"))
        with pytest.raises(OSError, match="down"):
            await cache.set("user:1", 1)
        assert await cache.get("profile:1:en", "gone") == "gone"

    on_route(scenario, {**RULES, "through": {"type": "write_through", "writer": "storehouse:save"}})
