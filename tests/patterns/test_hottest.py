"""Hottest: what was read most is near again after the next start."""

from __future__ import annotations

import asyncio
import logging

import pytest

import storehouse
from tiercache import Cache
from tiercache_plugins.advanced import AdvancedCachingSystem, CacheConfig, CacheType

DOCUMENT = {
    "tier": {"memory": {"type": "memory", "policy": "fifo"}, "disk": {"type": "sqlite", "path": "cache.db"}},
    "pattern": {"hottest": {"type": "hottest", "path": "there/hot.jsonl", "count": 2, "rate": 1000}},
    "route": {"all": {"tiers": ["memory", "disk"], "patterns": ["hottest"]}},
}


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    storehouse.reset()
    monkeypatch.chdir(tmp_path)


async def use(scenario, document=DOCUMENT):
    async with Cache.open(document) as cache:
        await cache._house.work._begun[0].settle()
        await scenario(cache)


async def read_most(cache):
    for at, key in enumerate(["a", "b", "c"]):
        await cache.set(key, at)
        for _ in range(at):
            await cache.get(key)


def test_what_was_read_most_is_near_again(tmp_path):
    async def look(cache):
        assert {key: cache.peek(key) for key in "abc"} == {"a": None, "b": 1, "c": 2}

    asyncio.run(use(read_most))
    assert (tmp_path / "there/hot.jsonl").stat().st_mode & 0o077 == 0
    asyncio.run(use(look))


def test_a_run_that_read_nothing_keeps_the_names_of_the_one_before(tmp_path):
    async def nothing(cache):
        pass

    asyncio.run(use(read_most))
    kept = (tmp_path / "there/hot.jsonl").read_text()
    (tmp_path / "cache.db").unlink()
    asyncio.run(use(nothing))
    assert (tmp_path / "there/hot.jsonl").read_text() == kept


def test_what_is_not_cached_any_more_is_loaded_where_the_route_can():
    document = {
        "pattern": {
            "hottest": DOCUMENT["pattern"]["hottest"],
            "read": {"type": "read_through", "loaders": {"*": "storehouse:load"}},
        },
        "route": {"all": {"tiers": ["memory"], "patterns": ["hottest", "read"]}},
    }

    async def read(cache):
        for _ in range(9):
            await cache.get("k")

    async def look(cache):
        assert cache.peek("k") == "v"

    storehouse.ROWS["k"] = "v"
    asyncio.run(use(read, document))
    asyncio.run(use(look, document))
    assert storehouse.LOADS == ["k", "k"]


@pytest.mark.parametrize("content", [b"nonsense", b'{"key": 1}', b"\xff\xfe", b"[]"])
def test_a_file_of_something_else_is_logged_and_hurts_nobody(tmp_path, caplog, content):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/hot.jsonl").write_bytes(content)

    async def look(cache):
        await read_most(cache)

    with caplog.at_level(logging.WARNING, "tiercache.patterns"):
        asyncio.run(use(look))
    assert len(caplog.records) == 1
    assert (tmp_path / "there/hot.jsonl").read_text().startswith('{"key": "c"')


def test_a_system_warms_itself_unless_it_is_told_not_to(tmp_path):
    async def scenario(config):
        async with AdvancedCachingSystem(config) as system:
            done = await system.warmup_cache({"a": 1, "b": object()}, CacheType.STATIC)
            assert (done.stored, done.failed) == (1, 1)
            for _ in range(9):
                assert await system.get("a", CacheType.STATIC) == 1

    asyncio.run(scenario(CacheConfig(cache_warming=False, memory_strategy="lru")))
    assert not (tmp_path / ".cache/hottest.jsonl").exists()
    asyncio.run(scenario(CacheConfig(memory_strategy="lru")))
    assert '"a"' in (tmp_path / ".cache/hottest.jsonl").read_text()
