"""Results of SQLAlchemy's queries in asynchronous sessions, on the event loop of the cache."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import selectinload, sessionmaker

from orders import Customer, Order, database
from tiercache import Cache
from tiercache_plugins.integrations.sqlalchemy import QueryCache, cached

MEMORY = {"tier": {"memory": {"type": "memory"}}, "route": {"all": {"tiers": ["memory"], "ttl": "1h"}}}
NAMES = select(Customer.name).order_by(Customer.id)
PATIENCE = 60


class Shop:
    """A database with a customer, a cache before it, and what the database was asked for."""

    def __init__(self, path, cache):
        self.path = path
        self.engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        self.sessions = async_sessionmaker(self.engine)
        self.queries = QueryCache(cache)
        self.queries.install(self.sessions)
        self.asked = []
        event.listen(
            self.engine.sync_engine, "before_cursor_execute", lambda *given: self.asked.append(given[2])
        )

    async def names(self):
        async with self.sessions() as session:
            return list(await session.scalars(NAMES, execution_options=cached()))

    async def change(self, name):
        async with self.sessions.begin() as session:
            await session.execute(update(Customer).values(name=name))


def run(directory, scenario, document=MEMORY):
    async def main():
        async with Cache.open(document) as cache, asyncio.timeout(PATIENCE):
            plain, _ = database(directory / "shop.db")
            with sessionmaker(plain).begin() as session:
                session.add(Customer(id=1, name="Ada", orders=[Order(id=1)]))
            plain.dispose()
            shop = Shop(directory / "shop.db", cache)
            try:
                return await scenario(shop)
            finally:
                await shop.engine.dispose()

    return asyncio.run(main())


def holding(shop):
    """Hold up the next query of customers inside of the database's driver, until the gate opens."""
    reached, gate = asyncio.Event(), asyncio.Event()
    held = []

    @event.listens_for(shop.engine.sync_engine, "before_cursor_execute")
    def _hold(connection, cursor, sql, parameters, context, many):
        from sqlalchemy.util import await_only

        if "SELECT customers.name" in sql and not held:
            held.append(sql)
            reached.set()
            await_only(gate.wait())

    return reached, gate


def test_a_query_is_asked_once_until_a_commit_changes_its_table(tmp_path):
    async def scenario(shop):
        assert await shop.names() == ["Ada"]
        shop.asked.clear()
        assert await shop.names() == ["Ada"]
        assert not shop.asked
        async with shop.sessions() as session:
            await session.execute(update(Customer).values(name="Eve"))
            assert list(await session.scalars(NAMES, execution_options=cached())) == ["Eve"]
            await session.rollback()
        shop.asked.clear()
        assert (await shop.names(), shop.asked) == (["Ada"], [])
        await shop.change("Eve")
        assert await shop.names() == ["Eve"]
        assert shop.queries.stats()["invalidations"] == 1

    run(tmp_path, scenario)


def test_entities_bring_what_was_loaded_along(tmp_path):
    async def scenario(shop):
        statement = select(Customer).options(selectinload(Customer.orders))
        for _ in range(2):
            async with shop.sessions() as session:
                customer = await session.scalar(statement, execution_options=cached())
                assert [order.id for order in customer.orders] == [1]
                shop.asked.clear()
        async with shop.sessions() as session:
            customer = await session.scalar(statement, execution_options=cached())
            assert not shop.asked
            customer.name = "Eve"
            await session.commit()
        assert await shop.names() == ["Eve"]

    run(tmp_path, scenario)


def test_many_that_want_the_same_ask_once(tmp_path):
    async def scenario(shop):
        reached, gate = holding(shop)
        asking = [asyncio.create_task(shop.names()) for _ in range(10)]
        await reached.wait()
        gate.set()
        assert await asyncio.gather(*asking) == [["Ada"]] * 10
        assert len(shop.asked) == 1

    run(tmp_path, scenario)


@pytest.mark.parametrize("others", [0, 3])
def test_whoever_loads_and_is_cancelled_takes_no_one_along(tmp_path, others):
    async def scenario(shop):
        reached, gate = holding(shop)
        first = asyncio.create_task(shop.names())
        await reached.wait()
        waiting = [asyncio.create_task(shop.names()) for _ in range(others)]
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        gate.set()
        assert await asyncio.gather(*waiting) == [["Ada"]] * others
        assert await shop.names() == ["Ada"]

    run(tmp_path, scenario)


def test_whoever_waits_and_is_cancelled_leaves_the_load_alone(tmp_path):
    async def scenario(shop):
        reached, gate = holding(shop)
        first = asyncio.create_task(shop.names())
        await reached.wait()
        waiting = asyncio.create_task(shop.names())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.set()
        assert await first == ["Ada"]
        shop.asked.clear()
        assert (await shop.names(), shop.asked) == (["Ada"], [])

    run(tmp_path, scenario)


def test_an_error_of_the_database_reaches_the_one_that_it_befell(tmp_path):
    async def scenario(shop):
        reached, gate = asyncio.Event(), asyncio.Event()
        failed = []

        @event.listens_for(shop.engine.sync_engine, "before_cursor_execute")
        def _fail(*given):
            from sqlalchemy.util import await_only

            if not failed:
                failed.append(1)
                reached.set()
                await_only(gate.wait())
                raise OSError("gone")

        first = asyncio.create_task(shop.names())
        await reached.wait()
        others = [asyncio.create_task(shop.names()) for _ in range(3)]
        await asyncio.sleep(0)
        gate.set()
        with pytest.raises(OSError, match="gone"):
            await first
        assert await asyncio.gather(*others) == [["Ada"]] * 3

    run(tmp_path, scenario)


def test_an_invalidation_goes_on_where_its_commit_is_cancelled(tmp_path, monkeypatch):
    async def scenario(shop):
        assert await shop.names() == ["Ada"]
        cache = shop.queries._source
        begun, gate = asyncio.Event(), asyncio.Event()
        plain = type(cache).invalidate

        async def slow(self, **asked):
            begun.set()
            await gate.wait()
            return await plain(self, **asked)

        monkeypatch.setattr(type(cache), "invalidate", slow)

        async def change():
            async with shop.sessions() as session:
                await session.execute(update(Customer).values(name="Eve"))
                await session.commit()

        changing = asyncio.create_task(change())
        await begun.wait()
        changing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await changing
        gate.set()
        assert await shop.names() == ["Eve"]
        while shop.queries.stats()["unsettled"]:
            await asyncio.sleep(0)
        assert await shop.names() == ["Eve"]

    run(tmp_path, scenario)


def test_a_commit_does_not_fail_where_the_cache_does(tmp_path, monkeypatch, caplog):
    async def scenario(shop):
        assert await shop.names() == ["Ada"]
        cache = shop.queries._source
        plain = type(cache).invalidate

        async def broken(self, **asked):
            raise OSError("no cache")

        monkeypatch.setattr(type(cache), "invalidate", broken)
        await shop.change("Eve")
        assert await shop.names() == ["Eve"]
        assert shop.queries.stats()["unsettled"] == 1
        assert "could not be ended" in caplog.text
        monkeypatch.setattr(type(cache), "invalidate", plain)
        assert await shop.names() == ["Eve"]
        assert shop.queries.stats()["unsettled"] == 0
        shop.asked.clear()
        assert (await shop.names(), shop.asked) == (["Eve"], [])

    run(tmp_path, scenario)


def test_a_sync_session_on_the_loop_itself_ends_results_before_they_are_used_again(tmp_path):
    async def scenario(shop):
        assert await shop.names() == ["Ada"]
        engine, _ = database(tmp_path / "shop.db")
        sessions = sessionmaker(engine)
        shop.queries.install(sessions)
        with sessions.begin() as session:
            session.execute(update(Customer).values(name="Eve"))
        assert await shop.names() == ["Eve"]
        with sessions() as session, pytest.raises(RuntimeError, match="would block the event loop"):
            session.scalars(select(Customer.id), execution_options=cached())
        engine.dispose()

    run(tmp_path, scenario)


def test_sync_and_async_sessions_of_one_database_share_its_tags(tmp_path):
    async def scenario(shop):
        assert await shop.names() == ["Ada"]
        engine, _ = database(tmp_path / "shop.db")
        sessions = sessionmaker(engine)
        shop.queries.install(sessions)

        def change():
            with sessions.begin() as session:
                session.execute(update(Customer).values(name="Eve"))

        await asyncio.to_thread(change)
        assert await shop.names() == ["Eve"]
        engine.dispose()

    run(tmp_path, scenario)


def test_streams_pass(tmp_path):
    async def scenario(shop):
        async with shop.sessions() as session:
            result = await session.stream(NAMES, execution_options=cached())
            assert [name async for (name,) in result] == ["Ada"]
        assert shop.queries.stats()["unfit"] == 1

    run(tmp_path, scenario)


def test_an_async_session_needs_the_cache_on_its_own_loop(tmp_path):
    with Cache.open_sync(MEMORY) as cache:

        async def scenario(shop):
            shop.queries._source = cache
            with pytest.raises(TypeError, match="not a SyncCache"):
                await shop.names()
            await shop.change("Eve")
            assert shop.queries.stats()["invalidations"] == 1

        run(tmp_path, scenario)
