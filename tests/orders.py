"""Tables of a shop, for what caches queries."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from sqlalchemy import JSON, ForeignKey, Numeric, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    extra: Mapped[dict] = mapped_column(JSON, default=dict)
    orders: Mapped[list[Order]] = relationship(
        back_populates="customer", order_by="Order.id", cascade="all", passive_deletes=True
    )


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id", ondelete="CASCADE"))
    total: Mapped[Decimal] = mapped_column(Numeric(10, 2), default=Decimal(0))
    kind: Mapped[str] = mapped_column(default="plain")
    customer: Mapped[Customer] = relationship(back_populates="orders")
    __mapper_args__: ClassVar = {"polymorphic_on": "kind", "polymorphic_identity": "plain"}


class GiftOrder(Order):
    __tablename__ = "gifts"
    id: Mapped[int] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True)
    note: Mapped[str]
    __mapper_args__: ClassVar = {"polymorphic_identity": "gift"}


def database(path, **options):
    """Return an engine on a file with the tables, and what it was asked for as a list of SQL."""
    engine = create_engine(f"sqlite:///{path}", **options)

    @event.listens_for(engine, "connect")
    def _connected(connection, record):
        connection.execute("pragma foreign_keys = on")
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = off")

    Base.metadata.create_all(engine)
    asked = []
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    return engine, asked
