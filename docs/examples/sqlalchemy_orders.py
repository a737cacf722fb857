"""Orders in SQLite, asked for by asynchronous sessions through the cache."""

import asyncio
import tempfile
from pathlib import Path

from sqlalchemy import ForeignKey, event, func, select, update
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

from tiercache import Cache
from tiercache_plugins.integrations.sqlalchemy import QueryCache, cached

MEMORY = {"tier": {"memory": {"type": "memory"}}, "route": {"all": {"tiers": ["memory"], "ttl": "1h"}}}


class Base(DeclarativeBase):
    """What the shop keeps."""


class Customer(Base):
    """Somebody who orders."""

    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    orders: Mapped[list["Order"]] = relationship()


class Order(Base):
    """What somebody ordered, in cents."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    total: Mapped[int]


TOTALS = select(Customer.name, func.sum(Order.total)).join(Order).group_by(Customer.name)
CUSTOMERS = select(Customer).options(selectinload(Customer.orders)).execution_options(**cached(ttl="5m"))


async def main(directory: Path) -> None:
    """Ask, write, take back, write again, and print the answers and how often the database was asked."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{directory / 'shop.db'}")
    asked: list[str] = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    async with Cache.open(MEMORY) as cache:
        sessions = async_sessionmaker(engine)
        queries = QueryCache(cache)
        queries.install(sessions)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with sessions.begin() as session:
            session.add(Customer(id=1, name="Ada", orders=[Order(total=150), Order(total=250)]))

        async def totals(what: str) -> None:
            asked.clear()
            async with sessions() as session:
                rows = (await session.execute(TOTALS, execution_options=cached())).all()
            print(f"{what}: {dict(rows)}, {len(asked)} asked")

        await totals("first")
        await totals("again")
        async with sessions() as session:
            await session.execute(update(Order).values(total=0))
            await session.rollback()
        await totals("after a rollback")
        async with sessions.begin() as session:
            session.add(Order(customer_id=1, total=600))
        await totals("after a commit")

        for _ in range(2):
            asked.clear()
            async with sessions() as session:
                customer = (await session.scalars(CUSTOMERS)).one()
                print(f"{customer.name} has {len(customer.orders)} orders, {len(asked)} asked")
    await engine.dispose()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(main(Path(directory)))
