"""Every Python block of summary.md runs as it is written there.

Only what a block leaves out is added: its imports, and stand-ins for what it leaves undefined (`GIVEN`). What
must hold afterwards is in `CHECKS`. `cache_integration`, from which one block imports, is an alias of
`tiercache_plugins.integrations`. Each block runs twice: with memory and disk alone, where the server that
some of them name does not answer, and with a real Valkey in its place.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import inspect
import io
import json
import re
import sys
import time
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import tiercache_plugins.advanced
import tiercache_plugins.patterns
from tiercache_plugins.advanced import AdvancedCachingSystem, CacheConfig, CacheType, close_default_cache
from tiercache_plugins.integrations import CacheIntegrationConfig, CacheIntegrationManager

PAGE = Path(__file__).with_name("summary.md")
PARTS = re.compile(r"^#+ (?P<heading>[^\n]*)$|^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
INTEGRATIONS = "tiercache_plugins.integrations"
NOWHERE = "redis://127.0.0.1:1"


@dataclass(frozen=True)
class Block:
    name: str
    code: str


def blocks() -> list[Block]:
    """Return the blocks in order, each named by its heading; the second of a heading has a 2 behind."""
    found: list[Block] = []
    heading = ""
    for part in PARTS.finditer(PAGE.read_text(encoding="utf-8")):
        if part["heading"] is not None:
            heading = part["heading"].lower()
            continue
        taken = sum(block.name.removesuffix(" 2") == heading for block in found)
        found.append(Block(f"{heading} {taken + 1}" if taken else heading, part["code"]))
    return found


BLOCKS = blocks()
Space = dict[str, Any]
Prepare = Callable[[Space], Awaitable[None]]
GIVEN: dict[str, Prepare] = {}
CHECKS: dict[str, Prepare] = {}


def given(*names: str) -> Callable[[Prepare], Prepare]:
    def note(prepare: Prepare) -> Prepare:
        assert not set(names) & GIVEN.keys()
        GIVEN.update(dict.fromkeys(names, prepare))
        return prepare

    return note


def check(name: str) -> Callable[[Prepare], Prepare]:
    def note(prepare: Prepare) -> Prepare:
        assert name not in CHECKS
        CHECKS[name] = prepare
        return prepare

    return note


# What blocks leave undefined


@given("cache decorators", "cache patterns", "cache warming", "cache preloading", "compression",
       "performance metrics", "from simple caching")  # fmt: skip
async def a_system(space):
    space["config"] = CacheConfig()
    space["cache_system"] = await AdvancedCachingSystem(space["config"]).initialize()

    async def load_from_source(key):
        space["loads"] = space.get("loads", 0) + 1
        return f"of {key}"

    space["load_from_source"] = load_from_source


@given("cache patterns 2")
async def statistics(space):
    await a_system(space)
    system = space["cache_system"]
    await system.get("a", CacheType.STATIC)
    await system.get("b", CacheType.STATIC)
    await system.get("c", CacheType.DYNAMIC)
    space["stats"] = system.get_comprehensive_stats()


@given("from redis-only caching")
async def a_key_that_is_cached(space):
    space["config"] = CacheConfig()
    space["key"] = "user:1"
    async with AdvancedCachingSystem(space["config"]) as system:
        await system.set("user:1", {"id": 1}, CacheType.DYNAMIC)


@given("from file-based caching")
async def a_key_on_disk(space):
    space["config"] = CacheConfig()
    space["key"] = "config:1"
    async with AdvancedCachingSystem(space["config"]) as system:
        await system.set("config:1", [1, 2], CacheType.STATIC)


@given("database integration", "session management", "configuration management", "template caching",
       "asset caching", "integration statistics")  # fmt: skip
async def a_manager(space):
    space["integration_manager"] = CacheIntegrationManager(CacheIntegrationConfig())
    await space["integration_manager"].initialize()

    class Database:
        calls = 0

        async def execute(self, statement, parameters):
            self.calls += 1
            return [{"id": parameters[0], "name": f"User {parameters[0]}"}]

    space["db"] = Database()


# What must hold afterwards


@check("basic caching")
async def _basic(space):
    assert space["app_config"] == {"version": "1.0.0", "environment": "production"}
    assert space["user_data"] == {"id": 123, "name": "John Doe"}
    if space["cache_system"].get_comprehensive_stats()["redis"]["available"]:
        assert await space["cache_system"].cache.ttl("user:123") == pytest.approx(1800, abs=60)
    assert Path("cache/tiercache.sqlite3").exists()


@check("cache decorators")
async def _decorators(space):
    for _ in range(2):
        assert await space["get_app_config"]() == {"version": "1.0.0", "features": ["a", "b", "c"]}
        assert await space["get_user_profile"](7) == {"id": 7, "name": "User 7"}
        assert await space["calculate_aggregation"]([1.0, 2.0]) == 1.5
    for name in ("get_app_config", "get_user_profile", "calculate_aggregation"):
        assert space[name].cache_info().loads == 1
    assert space["cache_system"].get_comprehensive_stats()["overall"]["cache_patterns"] == {
        "static": 2, "dynamic": 2, "computed": 2, "temporary": 0,
    }  # fmt: skip


@check("cache patterns")
async def _patterns(space):
    user = {"id": 123, "name": "User 123"}
    assert space["user_data"] == user
    assert await space["cache_system"].get("user:123") == user
    assert await space["cache_system"].get("user_profile:123") is None


@check("cacheconfig")
async def _config(space):
    config = space["config"]
    assert (config.memory_ttl, config.disk_max_size_mb, config.cache_warming) == (3600, 1024, True)
    async with AdvancedCachingSystem(config) as system:
        await system.set("k", "v" * 5000, CacheType.STATIC)
        assert await system.get("k", CacheType.STATIC) == "v" * 5000


@check("cache warming")
async def _warming(space):
    system = space["cache_system"]
    found = await system.get_many(space["static_data"], CacheType.STATIC)
    assert found == space["static_data"]
    assert len(found) == 4


@check("cache preloading")
async def _preloading(space):
    system = space["cache_system"]
    for at in range(3):
        assert await system.get(f"user:{at}") is None
    await space["prefetch_pattern"].settle()
    assert await system.get("user:124") == {"id": 124, "name": "Jane"}


@check("compression")
async def _compression(space):
    large = {"data": "x" * 2000}
    assert await space["cache_system"].get("large_data") == large
    sizes = []
    for config in (space["config"], CacheConfig(enable_compression=False)):
        async with AdvancedCachingSystem(config) as system:
            before = system.get_comprehensive_stats()["disk"]["size_bytes"]
            await system.set(f"of {config.enable_compression}", large, CacheType.STATIC)
            sizes.append(system.get_comprehensive_stats()["disk"]["size_bytes"] - before)
    assert sizes[0] < 1000 < 2000 < sizes[1]


@check("performance metrics")
async def _metrics(space):
    assert space["stats"] == space["cache_system"].get_comprehensive_stats()
    assert re.fullmatch(
        r"Overall hit rate: 0\.00%\nMemory cache size: 0\nRedis cache hit rate: 0\.00%\n"
        r"Disk cache file count: [1-9]\n",
        space["printed"].getvalue(),
    )


@check("cache patterns 2")
async def _counted(space):
    assert space["printed"].getvalue() == (
        "Static data accesses: 2\nDynamic data accesses: 1\nComputed data accesses: 0\n"
    )


@check("fastapi integration")
async def _fastapi(space):
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=space["app"]), base_url="http://shop.example"
    ) as client:
        answers = [await client.get("/api/users/7") for _ in range(2)]
        stats = (await client.get("/api/cache/stats")).json()["integrations"]["fastapi_middleware"]
    assert [answer.json() for answer in answers] == [{"id": 7, "name": "User 7"}] * 2
    assert "hit" in answers[1].headers["cache-status"]
    # The two of the block, and the three pages of FastAPI itself.
    assert stats["cacheable_routes"] >= 2
    assert (stats["hits"], stats["stored"]) == (1, 1)


@check("database integration")
async def _database(space):
    assert space["user_data"] == [{"id": 123, "name": "User 123"}]
    assert await space["get_user_by_id"](123) == space["user_data"]
    assert space["db"].calls == 1
    key = space["get_user_by_id"].key_for(123)
    assert key.startswith("db:")
    assert await space["integration_manager"].cache.ttl(key) == pytest.approx(1800, abs=60)


@check("integration statistics")
async def _integration_statistics(space):
    assert space["printed"].getvalue() == (
        "Cacheable routes: 0\nDatabase caching enabled: True\nSession TTL: 3600.0\n"
    )


@check("session management")
async def _sessions(space):
    data = {"user_id": 123, "permissions": ["read", "write"]}
    assert space["session_data"] == data
    now = await space["session_cache"].get_session("session_123")
    assert now == data | {"last_activity": pytest.approx(time.time(), abs=60)}
    assert not [key async for key in space["integration_manager"].cache.keys("*session_123*")]


@check("configuration management")
async def _configs(space):
    assert space["db_config"] == {"host": "localhost", "port": 5432, "database": "blatam_academy"}
    assert space["all_configs"] == {"database": space["db_config"]}


@check("template caching")
async def _templates(space):
    assert space["email_content"] == "Hello John, welcome!"
    cache, data = space["template_cache"], {"name": "John"}
    assert await cache.render_template_cached("welcome_email", data, None) == "Hello John, welcome!"


@check("asset caching")
async def _assets(space):
    assert space["image_data"] == b"image_data"
    assert await space["asset_cache"].get_asset_cached("/images/logo.png", None) == b"image_data"


@check("cacheintegrationconfig")
async def _integration_config(space):
    config = space["integration_config"]
    assert (config.session_ttl, config.api_cache_prefix, config.db_cache_ttl) == (3600, "api:", 1800)
    async with CacheIntegrationManager(config) as manager:
        await manager.cache.set("k", 1, route="session")
        assert await manager.cache.get("k", route="session") == 1


@check("from simple caching")
async def _simple(space):
    assert [await space["get_data"]("k") for _ in range(3)] == ["of k"] * 3
    assert space["loads"] == 1


@check("from redis-only caching")
async def _redis(space):
    assert space["data"] == {"id": 1}


@check("from file-based caching")
async def _files(space):
    assert space["data"] == [1, 2]


# Running them


def names() -> Space:
    """Return what the blocks leave out: the names of the library, and modules."""
    space: Space = {"json": json, "time": time, "List": typing.List}  # noqa: UP006 - the page's own word
    for module in (
        tiercache_plugins.advanced,
        tiercache_plugins.patterns,
        importlib.import_module(INTEGRATIONS),
    ):
        space |= {name: getattr(module, name) for name in module.__all__}
    return space


async def close_all(space: Space) -> None:
    for value in list(space.values()):
        if callable(getattr(value, "close", None)) and not inspect.isclass(value):
            with contextlib.suppress(TypeError):
                await value.close()
    await close_default_cache()


@pytest.fixture(params=["embedded", "valkey"])
def server(request, tmp_path, monkeypatch):
    """Run in a directory of its own, with a URL that leads to a server or to none."""
    monkeypatch.chdir(tmp_path)
    # Without its server, what a cache keeps near ends with the lease, which must outlast the slowest machine.
    monkeypatch.setenv("TIERCACHE_CACHE__LEASE", "10m")
    monkeypatch.setitem(sys.modules, "cache_integration", importlib.import_module(INTEGRATIONS))
    if request.param == "embedded":
        return NOWHERE
    url = request.getfixturevalue("valkey_server").url
    monkeypatch.setenv("CACHE_REDIS_URL", url)
    monkeypatch.setenv("CACHE_REDIS_TIMEOUT", "10")
    return url


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name.replace(" ", "-"))
def test_a_block_runs_as_it_is_written(block, server, request, monkeypatch):
    space = names()
    namespace = f"summary-{block.name.replace(' ', '-')}"
    monkeypatch.setenv("CACHE_NAMESPACE", namespace)
    if "redis://localhost:6379" in block.code:
        # Where the block's own server would be.
        monkeypatch.setenv("TIERCACHE_TIER__REDIS__URL", server)

    async def main():
        try:
            if block.name in GIVEN:
                await GIVEN[block.name](space)
            code = compile(block.code, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            space["printed"] = printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                running = eval(code, space)
                if running is not None:
                    await running
            if block.name in CHECKS:
                await CHECKS[block.name](space)
            if server != NOWHERE and "cache_system" in space:
                stats = space["cache_system"].get_comprehensive_stats()
                assert stats["redis"]["available"]
                await space["cache_system"].clear()
        finally:
            await close_all(space)

    asyncio.run(main())


def test_every_block_is_named_once_and_checked():
    names_of_all = [block.name for block in BLOCKS]
    assert len(set(names_of_all)) == len(names_of_all) == 20
    assert set(names_of_all) >= GIVEN.keys()
    assert set(names_of_all) == CHECKS.keys()
