"""The flat interface: settings, cache types, levels, numbers."""

from __future__ import annotations

import asyncio
import logging
import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from tiercache import Cache, CacheClosed, ConfigError
from tiercache_plugins.advanced import (
    AdvancedCachingSystem,
    CacheConfig,
    CacheStrategy,
    CacheType,
    DiskCache,
    MemoryCache,
    RedisCache,
)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(scenario, config=None):
    async def main():
        async with AdvancedCachingSystem(config) as system:
            return await scenario(system)

    return asyncio.run(main())


# Settings


def test_settings_come_from_arguments_then_the_environment_then_defaults(monkeypatch):
    monkeypatch.setenv("CACHE_MEMORY_MAX_SIZE", "77")
    monkeypatch.setenv("CACHE_DYNAMIC_TTL", "2h")
    monkeypatch.setenv("CACHE_REDIS_URL", "redis://:hush@localhost:7777/0")
    config = CacheConfig(memory_max_size=5)
    assert (config.memory_max_size, config.dynamic_ttl, config.static_ttl) == (5, 7200.0, 86_400.0)
    assert CacheConfig().memory_max_size == 77
    assert "hush" not in f"{config!r} {config}"


@pytest.mark.parametrize(
    "settings",
    [{"memory_max_sise": 5}, {"memory_max_size": 0}, {"dynamic_ttl": "soon"}, {"memory_strategy": "mru"}],
)
def test_a_wrong_setting_is_refused(settings):
    with pytest.raises(ValidationError):
        CacheConfig(**settings)


def test_a_secret_is_no_part_of_what_is_said_of_a_wrong_setting():
    with pytest.raises(ValidationError) as caught:
        CacheConfig(redis_url=["redis://:hush@localhost"])
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("strategy", CacheStrategy)
def test_every_strategy_is_a_policy(strategy):
    async def scenario(system):
        for at in range(30):
            await system.set(f"k{at}", at)
        assert system.get_comprehensive_stats()["memory"]["size"] <= 20

    run(scenario, CacheConfig(memory_strategy=strategy, memory_max_size=20, disk_cache_dir=None))


def test_every_type_travels_through_its_levels():
    away = CacheConfig(redis_url="redis://127.0.0.1:1")
    with_redis = {kind: away.tiers(kind) for kind in CacheType}
    assert with_redis == {
        CacheType.STATIC: ("memory", "redis", "disk"),
        CacheType.DYNAMIC: ("memory", "redis"),
        CacheType.COMPUTED: ("memory", "redis", "disk"),
        CacheType.TEMPORARY: ("memory",),
    }
    cache = Cache.open(away.document())
    for kind in CacheType:
        assert cache.tiers_of("k", route=kind) == with_redis[kind]
    assert CacheConfig().tiers(CacheType.DYNAMIC) == ("memory", "disk")
    assert CacheConfig(disk_cache_dir=None).tiers(CacheType.STATIC) == ("memory",)


def test_settings_become_options_of_the_tiers():
    config = CacheConfig(
        namespace="shop", memory_max_bytes="1MiB", memory_ttl=60, redis_url="redis://localhost/3",
        redis_max_connections=7, redis_timeout="1s", redis_ttl="2h", redis_compression=False,
        disk_cache_dir="there", disk_max_size_mb=3, disk_ttl="1d", compression_threshold=99, stale_ttl="5m",
        enable_metrics=False, tables={"tier": {"redis": {"mode": "cluster"}}},
    )  # fmt: skip
    document = config.document()
    assert document["cache"] == {"namespace": "shop"}
    assert document["telemetry"] == {"metrics": False}
    assert document["tier"] == {
        "memory": {
            "type": "memory", "max_entries": 10_000, "max_bytes": 2**20, "max_ttl": 60.0, "policy": "hybrid",
        },
        "redis": {
            "type": "redis", "url": "redis://localhost/3", "connections": 7, "timeout": 1.0,
            "max_ttl": 7200.0, "compressor": "none", "mode": "cluster",
        },
        "disk": {
            "type": "sqlite", "path": str(Path("there/tiercache.sqlite3").absolute()), "max_bytes": 3 * 2**20,
            "max_ttl": 86_400.0, "policy": "hybrid", "compressor": "zstd",
        },
    }  # fmt: skip
    assert document["compressor"] == {"zstd": {"type": "zstd", "threshold": 99}}
    assert document["route"]["static"] == {
        "tiers": ["memory", "redis", "disk"], "ttl": 86400.0, "stale": 300.0, "default": False,
        "patterns": ["hottest"],
    }  # fmt: skip
    assert "compressor" not in CacheConfig(enable_compression=False).document()


def test_a_table_that_can_t_be_is_refused_with_its_place():
    with pytest.raises(ConfigError, match="tier.memory"):
        AdvancedCachingSystem(CacheConfig(tables={"tier": {"memory": {"max_entrys": 5}}}))


# Keys and values


def test_a_value_is_read_by_its_type():
    async def scenario(system):
        await system.set("k", {"a": (1, None)}, CacheType.STATIC)
        assert await system.get("k", CacheType.STATIC) == {"a": (1, None)}
        await system.set("none", None, CacheType.DYNAMIC, ttl=1800)
        assert await system.get("none", CacheType.DYNAMIC, default="absent") is None
        assert await system.cache.ttl("none") == pytest.approx(1800, abs=60)
        assert await system.get("absent", default=7) == 7
        assert await system.get("absent") is None
        assert await system.exists("k", CacheType.STATIC)
        assert await system.delete("k")
        assert not await system.delete("k")
        assert await system.get("k", CacheType.STATIC) is None
        await system.set_many({"a": 1, "b": 2}, CacheType.COMPUTED, ttl="never")
        assert await system.get_many(["a", "b", "c"], CacheType.COMPUTED) == {"a": 1, "b": 2}
        assert await system.cache.ttl("a", route="computed") == math.inf
        assert [await system.increment("n", 2) for _ in range(2)] == [2, 4]
        assert await system.get_or_set("l", lambda: "loaded", CacheType.DYNAMIC) == "loaded"
        await system.clear()
        assert await system.get_many(["a", "b"], CacheType.COMPUTED) == {}

    run(scenario)


def test_the_types_have_lives_of_their_own():
    async def scenario(system):
        for kind in CacheType:
            await system.set(f"{kind}", 1, kind)
        lives = {kind: await system.cache.ttl(f"{kind}", route=kind) for kind in CacheType}
        assert lives == pytest.approx(
            {"static": 5e3, "dynamic": 4e3, "computed": 3e3, "temporary": 2e3}, abs=60
        )

    run(scenario, CacheConfig(static_ttl=5e3, dynamic_ttl=4e3, computed_ttl=3e3, temporary_ttl=2e3))


def test_static_values_outlive_the_process_and_temporary_ones_do_not():
    async def store(system):
        await system.set("config", 1, CacheType.STATIC)
        await system.set("scratch", 1, CacheType.TEMPORARY)

    async def look(system):
        assert await system.get("config", CacheType.STATIC) == 1
        assert await system.get("scratch", CacheType.TEMPORARY) is None

    run(store)
    run(look)


def test_invalidation_by_pattern_and_by_tag():
    async def scenario(system):
        await system.set_many({"user:1": 1, "user:2": 2, "page:1": 3}, tags=["people"])
        await system.set("page:2", 4)
        assert await system.invalidate_pattern("user:*") is None
        assert await system.get_many(["user:1", "user:2", "page:1", "page:2"]) == {"page:1": 3, "page:2": 4}
        await system.invalidate_tags("people")
        assert await system.get_many(["page:1", "page:2"]) == {"page:2": 4}
        assert await system.invalidate_pattern("page:?") == 1

    run(scenario)


def test_what_took_the_cache_before_it_was_initialized_has_the_one_that_is_open():
    async def main():
        system = AdvancedCachingSystem(CacheConfig(disk_cache_dir=None))
        taken = system.cache
        async with system:
            assert system.cache is taken
            assert taken.is_open

    asyncio.run(main())


def test_it_must_be_initialized_and_can_be_again_after_it_was_closed():
    async def main():
        system = AdvancedCachingSystem()
        with pytest.raises(CacheClosed):
            await system.get("k")
        assert await (await system.initialize()).initialize() is system
        await system.set("k", 1)
        await system.close()
        await system.close()
        with pytest.raises(CacheClosed):
            await system.get("k")
        await system.initialize()
        assert await system.get("k") == 1
        assert await asyncio.to_thread(system.sync.get, "k") == 1
        await system.close()

    asyncio.run(main())


# Numbers


def test_the_numbers_are_those_of_what_happened():
    async def scenario(system):
        stats = system.get_comprehensive_stats()
        assert stats["overall"]["hit_rate"] == stats["redis"]["hit_rate"] == 0.0
        await system.set("s", 1, CacheType.STATIC)
        for _ in range(3):
            await system.get("s", CacheType.STATIC)
        await system.get("absent", CacheType.STATIC)
        await system.get("absent", CacheType.DYNAMIC)
        await system.get_or_set("c", lambda: 1, CacheType.COMPUTED)
        await system.get_or_set("c", lambda: 1, CacheType.COMPUTED)
        stats = system.get_comprehensive_stats()
        assert stats["overall"]["cache_patterns"] == {
            "static": 4,
            "dynamic": 1,
            "computed": 2,
            "temporary": 0,
        }
        assert (stats["overall"]["hits"], stats["overall"]["misses"]) == (4, 3)
        assert stats["overall"]["hit_rate"] == pytest.approx(4 / 7)
        assert stats["overall"]["loads"] == 1
        assert stats["memory"]["size"] == 2
        assert stats["memory"]["hit_rate"] == pytest.approx(4 / 7)
        assert not stats["redis"]["enabled"]
        assert stats["disk"]["enabled"]
        assert stats["disk"]["misses"] == 3
        there = [path for path in Path(".cache").iterdir() if path.name.startswith("tiercache.sqlite3")]
        assert stats["disk"]["file_count"] == len(there) >= 1
        while system.get_comprehensive_stats()["disk"]["entries"] < 2:
            await asyncio.sleep(0.01)

    run(scenario)


def test_many_files_of_others_are_not_counted():
    async def scenario(system):
        Path(".cache/other").write_text("")
        assert system.get_comprehensive_stats()["disk"]["file_count"] == len(
            list(Path(".cache").glob("tiercache*"))
        )

    run(scenario)


# Levels that are away


def test_without_redis_it_goes_on_and_says_so_once(caplog):
    async def scenario(system):
        for at in range(20):
            await system.set(f"k{at}", at)
            assert await system.get(f"k{at}") == at
            assert await system.get(f"absent{at}") is None
        stats = system.get_comprehensive_stats()
        assert stats["redis"]["enabled"]
        assert not stats["redis"]["available"]
        assert stats["redis"]["hit_rate"] == 0.0
        told = [record.getMessage() for record in caplog.records if record.name.startswith("tiercache")]
        assert len(told) == 1
        assert "redis is lost" in told[0]

    with caplog.at_level(logging.WARNING):
        # A lease ends what is near while the server is away: longer than the slowest machine takes.
        run(scenario, CacheConfig(redis_url="redis://127.0.0.1:1", tables={"cache": {"lease": "10m"}}))


def test_with_redis_another_process_has_it(valkey_server):
    config = CacheConfig(
        redis_url=valkey_server.url, namespace="advanced-shared", disk_cache_dir=None, redis_timeout=10
    )

    async def store(system):
        await system.set("user:1", {"name": "Ann" * 1000}, CacheType.DYNAMIC)

    async def look(system):
        assert await system.get("user:1", CacheType.DYNAMIC) == {"name": "Ann" * 1000}
        stats = system.get_comprehensive_stats()
        assert stats["redis"]["hits"] == 1
        assert stats["redis"]["hit_rate"] == 1.0
        assert stats["overall"]["cache_patterns"]["dynamic"] == 1
        await system.clear()

    run(store, config)
    run(look, config)


# Each level alone


@pytest.mark.parametrize("kind", [MemoryCache, DiskCache, RedisCache])
def test_a_level_alone_opens_at_its_first_call(kind, valkey_server):
    config = CacheConfig(redis_url=valkey_server.url, namespace="advanced-alone", redis_timeout=10)

    async def main():
        level = kind(config)
        assert await asyncio.gather(*(level.get("k") for _ in range(9))) == [None] * 9
        await level.set("k", {"v": 1}, ttl=60)
        assert await level.get("k") == {"v": 1}
        assert await level.get_many(["k", "x"]) == {"k": {"v": 1}}
        assert await level.exists("k")
        assert await level.get_or_set("l", lambda: 2) == 2
        assert level.get_stats()["hits"] >= 2
        assert await level.delete("k")
        await level.clear()
        assert await level.get("l", "gone") == "gone"
        await level.close()
        await level.close()
        async with kind(config) as again:
            assert await again.get("k", 5) == 5

    asyncio.run(main())


def test_what_the_disk_keeps_is_what_the_system_keeps_there():
    async def main():
        async with AdvancedCachingSystem() as system:
            await system.set("k", 1, CacheType.STATIC)
        async with DiskCache() as disk:
            assert await disk.get("k") == 1

    asyncio.run(main())


def test_one_who_gives_up_while_a_level_opens_hurts_no_other():
    async def main():
        disk = DiskCache()
        first = asyncio.ensure_future(disk.get("k"))
        second = asyncio.ensure_future(disk.get("k", 3))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == 3
        with pytest.raises(asyncio.CancelledError):
            await first
        await disk.close()

    asyncio.run(main())


def test_a_level_that_is_not_configured_is_refused():
    with pytest.raises(ValueError, match="redis_url"):
        RedisCache(CacheConfig())
    with pytest.raises(ValueError, match="disk_cache_dir"):
        DiskCache(CacheConfig(disk_cache_dir=None))
