"""Results of queries, and the tables that they end with."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tiercache import Cache
from tiercache_plugins.integrations import CacheIntegrationConfig, CacheIntegrationManager, DatabaseCache

DOCUMENT = {"tier": {"memory": {"type": "memory"}}, "route": {"all": {"tiers": ["memory"], "ttl": "1h"}}}
QUERIES = itertools.count(1)


def run(scenario):
    async def main():
        async with Cache.open(DOCUMENT) as cache:
            return await scenario(cache)

    return asyncio.run(main())


async def rows(session, table, *, limit=5):
    return f"{table} {limit} {next(QUERIES)}"


def test_a_query_is_asked_once_by_its_arguments_under_the_prefix():
    async def scenario(cache):
        db = DatabaseCache(cache, ttl="5m")
        cached = db.query_cache_decorator(ignore=("session",))(rows)
        first = await cached(object(), "users")
        assert await cached(object(), "users", limit=5) == first
        assert await cached(object(), "users", limit=6) != first
        assert await cached(object(), "orders") != first
        keys = [key async for key in cache.keys()]
        assert len(keys) == 3
        assert all(key.startswith("db:") for key in keys)
        key = cached.key_for(object(), "users")
        assert key in keys
        assert 290 < await cache.ttl(key) <= 300
        assert await cached.invalidate(object(), "users")
        assert await cached(object(), "users") != first
        stats = db.stats()
        assert (stats["functions"], stats["queries"], stats["errors"]) == (1, 4, 0)

    run(scenario)


def test_results_end_with_their_tables():
    async def scenario(cache):
        db = DatabaseCache(cache)

        @db.query_cache_decorator(ttl=60, tables=("users", "orders{x}"), ignore=("session",))
        async def both(session, name):
            return next(QUERIES)

        users = db.query_cache_decorator(60, tables=["users"], key="users:{table}")(rows)
        results = [await both(None, "a"), await users(None, "a")]
        assert [await both(None, "a"), await users(None, "a")] == results
        await db.invalidate_tables("orders{x}")
        again = await both(None, "a")
        assert again != results[0]
        assert await users(None, "a") == results[1]
        assert users.key_for(None, "a") == "db:users:a"
        await db.invalidate_tables("others", "users")
        assert await both(None, "a") != again
        assert await users(None, "a") != results[1]
        assert db.stats()["invalidations"] == 2

    run(scenario)


def test_what_was_asked_for_before_a_table_changed_is_not_kept():
    async def scenario(cache):
        db = DatabaseCache(cache)
        asked, changed = asyncio.Event(), asyncio.Event()
        answers = iter(["old", "new"])

        @db.query_cache_decorator(tables=("users",), key="slow")
        async def slow():
            answer = next(answers)
            if answer == "old":
                asked.set()
                await changed.wait()
            return answer

        waiting = asyncio.create_task(slow())
        await asked.wait()
        await db.invalidate_tables("users")
        changed.set()
        await waiting
        assert await slow() == "new"

    run(scenario)


@pytest.mark.parametrize("enabled", [True, False])
def test_what_is_switched_off_asks_the_database_each_time(enabled):
    async def scenario(cache):
        cached = DatabaseCache(cache, enabled=enabled).query_cache_decorator(ignore=("session",))(rows)
        assert (await cached(None, "t") == await cached(None, "t")) is enabled
        assert [key async for key in cache.keys()] == ([cached.key_for(None, "t")] if enabled else [])

    run(scenario)


def now(table):
    return f"{table} {next(QUERIES)}"


@pytest.mark.parametrize("enabled", [True, False])
def test_so_do_functions_that_do_not_wait(enabled):
    async def scenario(cache):
        cached = DatabaseCache(cache, enabled=enabled).query_cache_decorator()(now)
        for call in (lambda: asyncio.to_thread(cached, "t"), lambda: asyncio.sleep(0, cached("u"))):
            first = await call()
            assert isinstance(first, str)
            assert (await call() == first) is enabled

    run(scenario)


def test_methods_and_functions_that_do_not_wait_are_cached_too():
    class Shop:
        def __init__(self, number):
            self.number = number

        def items(self, kind):
            return self.number, kind, next(QUERIES)

    async def scenario(cache):
        db = DatabaseCache(cache)
        Shop.items = db.query_cache_decorator(key="shop:{self.number}:{kind}")(Shop.items)
        first = await asyncio.to_thread(lambda: Shop(1).items("a"))
        assert await asyncio.to_thread(lambda: Shop(1).items("a")) == first
        assert await asyncio.to_thread(lambda: Shop(2).items("a")) != first
        assert [key async for key in cache.keys("db:shop:1:*")] == ["db:shop:1:a"]

    run(scenario)


def test_tables_are_a_collection():
    with pytest.raises(TypeError, match="tables must be a collection"):
        DatabaseCache(object()).query_cache_decorator(tables="users")


def test_an_error_is_not_kept():
    async def scenario(cache):
        db = DatabaseCache(cache)
        outcomes = iter([RuntimeError("gone"), 7])

        @db.query_cache_decorator(key="row")
        async def row():
            if isinstance(outcome := next(outcomes), Exception):
                raise outcome
            return outcome

        with pytest.raises(RuntimeError, match="gone"):
            await row()
        assert await row() == 7
        assert db.stats()["errors"] == 1

    run(scenario)


def test_the_manager_has_it_at_module_level_and_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    manager = CacheIntegrationManager(CacheIntegrationConfig(db_cache_prefix="rows:", db_cache_ttl=50))
    cached = manager.get_database_cache().query_cache_decorator(ignore=("session",))(rows)

    async def main():
        async with manager:
            assert await cached(None, "t") == await cached(None, "t")
            assert 40 < await manager.cache.ttl(cached.key_for(None, "t")) <= 50
            return manager.get_comprehensive_stats()["integrations"]["database_cache"]

    counted = asyncio.run(main())
    assert (counted["enabled"], counted["prefix"], counted["db_cache_ttl"]) == (True, "rows:", 50)
    assert counted["queries"] == 1
