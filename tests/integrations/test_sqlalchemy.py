"""Results of SQLAlchemy's queries: what is kept, what it comes back as, and when it ends."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest
from sqlalchemy import bindparam, delete, event, func, insert, inspect, select, text, update
from sqlalchemy.orm import joinedload, selectinload, sessionmaker

from orders import Customer, GiftOrder, Order, database
from tiercache import Cache
from tiercache_plugins.integrations.sqlalchemy import QueryCache, cached, writes

MEMORY = {"tier": {"memory": {"type": "memory"}}, "route": {"all": {"tiers": ["memory"], "ttl": "1h"}}}
ALSO_STORED = pytest.mark.parametrize("shop", ["memory", "disk"], indirect=True)
NAMES = select(Customer.name).order_by(Customer.id)
WHOLE = select(Customer).order_by(Customer.id)


class Shop:
    """A database with two customers, a cache before it, and what the database was asked for."""

    def __init__(self, directory, cache, **options):
        self.engine, self.asked = database(directory / "shop.db", **options)
        self.plain = sessionmaker(self.engine)
        self.sessions = sessionmaker(self.engine)
        self.queries = QueryCache(cache)
        self.queries.install(self.sessions)
        with self.plain.begin() as session:
            ada = Customer(id=1, name="Ada", extra={"tags": ["a"]})
            ada.orders = [Order(id=1, total=Decimal("1.50")), GiftOrder(id=2, total=Decimal(2), note="hi")]
            session.add_all([ada, Customer(id=2, name="Bob")])
        self.asked.clear()

    def ask(self, statement=NAMES, **options):
        """Return what a session of its own is given, and whether the database was asked."""
        self.asked.clear()
        with self.sessions() as session:
            rows = session.execute(statement, execution_options=cached(**options)).all()
        return rows, bool(self.asked)

    def names(self):
        return [name for (name,) in self.ask()[0]]

    def cached(self, statement=NAMES, **options):
        self.ask(statement, **options)
        return not self.ask(statement, **options)[1]


@pytest.fixture
def shop(request, tmp_path):
    document = MEMORY
    if getattr(request, "param", None) == "disk":
        document = {
            "tier": {"disk": {"type": "sqlite", "path": str(tmp_path / "cache.db")}},
            "route": {"all": {"tiers": ["disk"], "ttl": "1h"}},
        }
    with Cache.open_sync(document) as cache:
        made = Shop(tmp_path, cache)
        yield made
        made.engine.dispose()


@ALSO_STORED
def test_a_query_that_asks_for_it_is_answered_from_the_cache(shop):
    assert shop.ask() == ([("Ada",), ("Bob",)], True)
    rows, asked = shop.ask()
    assert (rows, asked) == ([("Ada",), ("Bob",)], False)
    assert rows[0].name == "Ada"
    assert rows[0]._mapping[Customer.name] == "Ada"
    with shop.sessions() as session:
        shop.asked.clear()
        assert session.scalars(NAMES).all() == ["Ada", "Bob"]
        assert shop.asked
    stats = shop.queries.stats()
    assert (stats["hits"], stats["misses"], stats["passed"]) == (1, 1, 0)


def test_parameters_options_and_results_tell_queries_apart(shop):
    statements = [
        select(Customer.name).where(Customer.id == 1),
        select(Customer.name).where(Customer.id == 2),
        select(Customer.name).where(Customer.name == "1"),
        select(Customer.name).where(Customer.id.in_([1, 2])),
        select(Customer.name).where(Customer.id.in_([2, 1, 3])),
        select(Customer).where(Customer.id == 1),
        select(Customer.id, Customer.name, Customer.extra).where(Customer.id == 1),
        select(Customer.__table__).where(Customer.id == 1),
        select(Customer).where(Customer.id == 1).options(selectinload(Customer.orders)),
        select(Customer).where(Customer.id == 1).options(selectinload(Customer.orders.and_(Order.total > 1))),
        select(Customer).where(Customer.id == 1).options(selectinload(Customer.orders.and_(Order.total > 2))),
    ]
    for statement in statements:
        assert shop.ask(statement)[1], statement
    for statement in statements:
        assert not shop.ask(statement)[1], statement
    late = select(Customer.name).where(Customer.id == bindparam("id"))
    with shop.sessions() as session:
        told = [session.scalar(late, {"id": each}, execution_options=cached()) for each in (1, 2, 1)]
    assert told == ["Ada", "Bob", "Ada"]


@ALSO_STORED
def test_entities_come_back_into_the_session_that_asks_and_belong_to_it_alone(shop):
    shop.ask(WHOLE)
    with shop.sessions() as first, shop.sessions() as second:
        shop.asked.clear()
        mine = first.scalars(WHOLE, execution_options=cached()).first()
        yours = second.scalars(WHOLE, execution_options=cached()).first()
        assert not shop.asked
        assert mine is not yours
        assert inspect(mine).persistent
        assert first.get(Customer, 1) is mine
        mine.extra["tags"].append("b")
        assert yours.extra == {"tags": ["a"]}
        assert [order.id for order in mine.orders] == [1, 2], "relationships load when they are asked for"
        assert not first.dirty
    with shop.sessions() as third:
        assert third.scalars(WHOLE, execution_options=cached()).first().extra == {"tags": ["a"]}


def test_a_change_of_an_entity_from_the_cache_is_written(shop):
    shop.ask(WHOLE)
    with shop.sessions.begin() as session:
        session.scalars(WHOLE, execution_options=cached()).first().name = "Eve"
    assert shop.ask(WHOLE)[1]
    assert shop.names() == ["Eve", "Bob"]


@ALSO_STORED
@pytest.mark.parametrize("load", [joinedload, selectinload])
def test_what_is_loaded_along_is_kept_along(shop, load):
    statement = select(Customer).options(load(Customer.orders)).order_by(Customer.id)

    def ask():
        shop.asked.clear()
        with shop.sessions() as session:
            found = session.scalars(statement, execution_options=cached()).unique().all()
            told = [(each.name, [(type(order), order.total) for order in each.orders]) for each in found]
            assert all(order.customer is each for each in found for order in each.orders)
            return told, bool(shop.asked)

    whole = [("Ada", [(Order, Decimal("1.50")), (GiftOrder, Decimal("2.00"))]), ("Bob", [])]
    assert ask() == (whole, True)
    assert ask()[0] == whole
    with shop.sessions.begin() as session:
        session.add(Order(id=3, customer_id=2, total=Decimal(3)))
    told, asked = ask()
    assert asked
    assert told[1] == ("Bob", [(Order, Decimal("3.00"))])


@ALSO_STORED
def test_a_subclass_comes_back_as_itself_and_ends_with_both_its_tables(shop):
    statement = select(GiftOrder)
    for table in (Order.__table__, GiftOrder.__table__):
        assert shop.cached(statement)
        with shop.sessions() as session:
            (gift,) = session.scalars(statement, execution_options=cached())
            assert (type(gift), gift.note, gift.total) == (GiftOrder, "hi", Decimal("2.00"))
        with shop.sessions.begin() as session:
            session.execute(update(table).where(table.c.id == 2).values(id=2))
        assert shop.ask(statement)[1]


def test_objects_that_the_session_has_stay_as_they_are_and_never_reach_the_cache(shop):
    with shop.sessions(expire_on_commit=False) as session:
        known = session.get(Customer, 1)
        session.commit()
        with shop.plain.begin() as other:
            other.get(Customer, 1).name = "Eve"
        assert session.scalars(WHOLE, execution_options=cached()).first() is known
        assert known.name == "Ada", "as with any query"
    assert shop.queries.stats()["misses"] == 1
    rows, asked = shop.ask(WHOLE)
    assert (rows[0][0].name, asked) == ("Eve", False)


def test_expired_objects_are_filled_from_the_cache(shop):
    shop.ask(WHOLE)
    with shop.sessions() as session:
        known = session.get(Customer, 1)
        session.expire(known)
        shop.asked.clear()
        session.scalars(WHOLE, execution_options=cached()).all()
        assert (known.name, shop.asked) == ("Ada", [])


CHANGES = {
    "flush": lambda session: setattr(session.get(Customer, 1), "name", "Eve"),
    "bulk update": lambda session: session.execute(
        update(Customer).where(Customer.id == 1).values(name="Eve")
    ),
    "bulk insert": lambda session: session.execute(
        insert(Customer), [{"id": 8, "name": "x"}, {"id": 9, "name": "y"}]
    ),
    "delete": lambda session: session.execute(delete(Customer).where(Customer.id == 2)),
    "core": lambda session: session.connection().execute(
        update(Customer.__table__).where(Customer.__table__.c.id == 1).values(name="Eve")
    ),
    "legacy": lambda session: session.query(Customer).filter_by(id=1).update({"name": "Eve"}),
    "text": lambda session: session.execute(text("update customers set name = 'Eve' where id = 1")),
    "declared": lambda session: session.execute(
        text("update customers set name = 'Eve' where id = 1").execution_options(**writes("Customers"))
    ),
    "driver": lambda session: session.connection().exec_driver_sql("update customers set name = 'Eve'"),
    "cte": lambda session: session.execute(
        insert(Customer).from_select(
            ["id", "name", "extra"], select(Customer.id + 10, Customer.name, Customer.extra)
        )
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_commit_ends_what_was_read_from_the_table_and_a_rollback_nothing(shop, change):
    assert shop.cached()
    with shop.sessions() as session:
        change(session)
        session.flush()
        session.rollback()
    assert not shop.ask()[1]
    with shop.sessions() as session:
        change(session)
        session.flush()
        assert not shop.ask()[1], "nothing ends before the commit"
        session.commit()
        before = shop.names()
    with shop.plain() as session:
        assert before == session.scalars(NAMES).all()
    assert before != ["Ada", "Bob"]


def test_other_tables_stay(shop):
    totals = select(func.sum(Order.total))
    assert shop.cached(totals)
    with shop.sessions.begin() as session:
        session.execute(update(Customer).values(name="x"))
    assert not shop.ask(totals)[1]
    with shop.sessions.begin() as session:
        session.execute(text("update orders set total = 0").execution_options(**writes("customers")))
    assert not shop.ask(totals)[1], "what text says of itself is believed"


def test_what_the_database_deletes_along_ends_too(shop):
    count = select(func.count()).select_from(GiftOrder.__table__)
    assert shop.cached(count)
    with shop.sessions.begin() as session:
        session.execute(delete(Customer).where(Customer.id == 1))
    assert shop.ask(count) == ([(0,)], True)


@pytest.mark.parametrize(
    "statement",
    [
        select(Customer.name).join(Order),
        select(Customer.name).where(Customer.id.in_(select(Order.customer_id))),
        select(Customer.name).where(select(Order.id).where(Order.customer_id == Customer.id).exists()),
        select(select(Order.customer_id).cte("owners")),
        select(select(Order.customer_id).subquery()),
        select(select(func.count(Order.id)).scalar_subquery()),
        select(Customer.id).union_all(select(Order.id)),
        select(Customer.name).where(Customer.orders.any()),
    ],
    ids=str,
)
def test_a_table_is_found_wherever_it_stands_in_a_query(shop, statement):
    assert shop.cached(statement)
    with shop.sessions.begin() as session:
        session.execute(update(Order.__table__).values(total=5))
    assert shop.ask(statement)[1]


def test_savepoints_take_back_what_was_written_in_them_alone(shop):
    totals = select(func.sum(Order.total))
    assert shop.cached(totals)
    assert shop.cached()
    with shop.sessions.begin() as session:
        session.execute(update(Customer).values(name="kept"))
        inner = session.begin_nested()
        session.execute(update(Order.__table__).values(total=9))
        deepest = session.begin_nested()
        session.execute(update(Order.__table__).values(total=8))
        deepest.commit()
        inner.rollback()
    assert not shop.ask(totals)[1]
    assert shop.names() == ["kept", "kept"]
    with shop.sessions.begin() as session, session.begin_nested():
        session.execute(update(Order.__table__).values(total=7))
    assert shop.ask(totals) == ([(Decimal("14.00"),)], True)


def test_a_released_savepoint_ends_nothing_before_the_transaction_commits(shop):
    assert shop.cached()
    with shop.sessions() as session:
        with session.begin_nested():
            session.execute(update(Customer).values(name="x"))
        assert not shop.ask()[1]
        session.rollback()
    assert not shop.ask()[1]


def test_a_transaction_that_writes_reads_past_the_cache_and_stores_nothing(shop):
    assert shop.cached()
    with shop.sessions() as session:
        session.get(Customer, 1).name = "Eve"
        assert session.scalars(NAMES, execution_options=cached()).all() == ["Eve", "Bob"], (
            "pending comes first"
        )
        assert session.scalars(NAMES, execution_options=cached()).all() == ["Eve", "Bob"], "written too"
        session.rollback()
        assert session.scalars(NAMES, execution_options=cached()).all() == ["Ada", "Bob"]
    assert shop.names() == ["Ada", "Bob"]
    assert shop.queries.stats()["written"] == 2


def test_a_snapshot_that_is_older_than_an_invalidation_is_not_stored(tmp_path):
    with Cache.open_sync(MEMORY) as cache:
        shop = Shop(tmp_path, cache)
        event.listen(shop.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        with shop.sessions() as old:
            assert old.scalar(select(Customer.name).where(Customer.id == 1)) == "Ada"
            with shop.sessions.begin() as session:
                session.get(Customer, 1).name = "Eve"
            assert old.scalars(NAMES, execution_options=cached()).all() == ["Ada", "Bob"], "its snapshot"
            assert shop.queries.stats()["snapshot"] == 1
        assert shop.names() == ["Eve", "Bob"]
        assert not shop.ask()[1]
        shop.engine.dispose()


def test_a_load_that_ran_while_another_session_committed_is_not_kept(shop):
    committed = []

    @event.listens_for(shop.engine, "after_cursor_execute")
    def _between(connection, cursor, sql, *rest):
        if "SELECT customers.name" in sql and not committed:
            committed.append(sql)
            thread = threading.Thread(target=change)
            thread.start()
            thread.join()

    def change():
        with shop.sessions.begin() as session:
            session.execute(update(Customer).where(Customer.id == 1).values(name="Eve"))

    shop.ask()
    assert committed
    assert shop.names() == ["Eve", "Bob"]


def test_each_statement_of_an_engine_that_commits_by_itself_ends_results(shop):
    own = sessionmaker(shop.engine.execution_options(isolation_level="AUTOCOMMIT"))
    shop.queries.install(own)
    assert shop.cached()
    with own() as session:
        session.execute(update(Customer).where(Customer.id == 1).values(name="Eve"))
        assert shop.names() == ["Eve", "Bob"]
        session.rollback()
    assert not shop.ask()[1]


def test_two_databases_are_two(shop, tmp_path):
    other, _ = database(tmp_path / "other.db")
    sessions = sessionmaker(other)
    shop.queries.install(sessions)
    assert shop.cached()
    with sessions.begin() as session:
        session.add(Customer(id=1, name="Zoe"))
    assert not shop.ask()[1]
    with sessions() as session:
        assert session.scalars(NAMES, execution_options=cached()).all() == ["Zoe"]
    with pytest.raises(ValueError, match="2 databases"):
        shop.queries.invalidate_sync("customers")
    shop.queries.invalidate_sync("customers", engine=shop.engine)
    assert shop.ask()[1]
    other.dispose()


def test_one_session_on_two_databases_ends_what_it_wrote_in_each(shop, tmp_path):
    other, _ = database(tmp_path / "other.db")
    both = sessionmaker(binds={Customer: shop.engine, Order: other})
    shop.queries.install(both)
    assert shop.cached()
    with both.begin() as session:
        session.execute(insert(Customer.__table__), {"id": 1, "name": "x"}, bind_arguments={"bind": other})
        session.add(Order(id=7, customer_id=1))
        session.execute(update(Customer).where(Customer.id == 1).values(name="Eve"))
    assert shop.names() == ["Eve", "Bob"]
    with both() as session:
        assert session.scalars(select(Order.id), execution_options=cached()).all() == [7]
        session.add(Order(id=8, customer_id=1))
        session.commit()
        assert session.scalars(select(Order.id), execution_options=cached()).all() == [7, 8]
    other.dispose()


def test_many_threads_that_want_the_same_ask_the_database_once(shop):
    together, entered = threading.Barrier(8, timeout=30), threading.Event()
    told = []

    @event.listens_for(shop.engine, "before_cursor_execute")
    def _slow(*given):
        entered.wait(0.2)

    def ask():
        with shop.sessions() as session:
            together.wait()
            told.append(session.scalars(WHOLE, execution_options=cached()).all()[0].name)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert told == ["Ada"] * 8
    assert len(shop.asked) == 1


def test_one_whose_database_fails_does_not_fail_the_others(shop):
    failing, waiting = threading.Event(), threading.Event()
    first = []

    @event.listens_for(shop.engine, "before_cursor_execute")
    def _fails(*given):
        if not first:
            first.append(threading.get_ident())
            failing.set()
            waiting.wait(30)
            raise OSError("gone")

    told, errors = [], []

    def ask():
        try:
            told.append(shop.ask()[0])
        except OSError as error:
            errors.append(error)

    leader = threading.Thread(target=ask)
    leader.start()
    assert failing.wait(30)
    others = [threading.Thread(target=ask) for _ in range(3)]
    for thread in others:
        thread.start()
    waiting.set()
    for thread in [leader, *others]:
        thread.join(60)
    assert len(errors) == 1
    assert told == [[("Ada",), ("Bob",)]] * 3


def test_text_says_what_it_reads(shop):
    statement = text("select name from customers where id = :id")
    with shop.sessions() as session, pytest.raises(TypeError, match="cached\\(tables="):
        session.execute(statement, {"id": 1}, execution_options=cached())

    def ask(number):
        shop.asked.clear()
        with shop.sessions() as session:
            return session.execute(
                statement, {"id": number}, execution_options=cached(tables=["customers"])
            ).all()

    assert (ask(1), ask(2), ask(1), shop.asked) == ([("Ada",)], [("Bob",)], [("Ada",)], [])
    with shop.sessions.begin() as session:
        session.execute(update(Customer).values(name="x"))
    assert ask(1) == [("x",)]


def test_what_can_not_be_told_apart_is_refused(shop):
    with shop.sessions() as session:
        ada = session.get(Customer, 1)
        with pytest.raises(TypeError, match="is a function"):
            session.execute(select(Order).where(Order.customer == ada), execution_options=cached())
        with pytest.raises(TypeError, match="parameter of"):
            session.execute(
                select(Customer.id).where(Customer.name == bindparam("x", object())),
                execution_options=cached(),
            )
        with pytest.raises(TypeError, match="only what selects"):
            session.execute(update(Customer).values(name="x"), execution_options=cached())


def test_what_is_not_for_keeping_passes(shop):
    for statement in (
        WHOLE.with_for_update(),
        WHOLE.execution_options(populate_existing=True),
        WHOLE.execution_options(yield_per=10),
    ):
        assert not shop.cached(statement)
    assert shop.queries.stats()["unfit"] == 6
    with shop.sessions() as session:
        assert [each.name for each in session.query(Customer).execution_options(**cached())] == ["Ada", "Bob"]
    assert shop.queries.stats()["unfit"] == 7


def test_a_listener_behind_the_cache_is_refused(shop):
    late = sessionmaker(shop.engine)
    shop.queries.install(late)
    event.listen(late, "do_orm_execute", lambda state: None)
    with late() as session, pytest.raises(RuntimeError, match="install the cache after"):
        session.execute(NAMES, execution_options=cached())


def test_what_varies_beside_the_statement_is_in_the_key(shop):
    by_tenant = QueryCache(shop.queries._source, prefix="t:", vary=lambda session: session.info["tenant"])
    sessions = sessionmaker(shop.engine)
    by_tenant.install(sessions)
    for tenant in ("a", "b"):
        shop.asked.clear()
        with sessions(info={"tenant": tenant}) as session:
            session.execute(NAMES, execution_options=cached())
        assert shop.asked


def test_a_session_on_a_connection_of_its_own_passes(shop):
    with shop.engine.connect() as connection, shop.sessions(bind=connection) as session:
        session.execute(NAMES, execution_options=cached())
    assert shop.queries.stats()["unfit"] == 1


def test_a_closed_cache_costs_a_query_and_is_owed_the_change(shop, caplog):
    assert shop.cached()
    shop.queries._source.close()
    with shop.sessions.begin() as session:
        session.execute(update(Customer).values(name="x"))
    assert shop.names() == ["x", "x"]
    assert shop.queries.stats()["failed"] >= 1
    assert shop.queries.stats()["unsettled"] == 1
    assert "could not be ended" in caplog.text


def test_tags_and_ttl_are_those_of_the_query(shop):
    assert shop.cached(ttl=60, tags=["mine"])
    (key,) = shop.queries._source.keys("sql:*")
    assert 0 < shop.queries._source.ttl(key) <= 60
    shop.queries._source.invalidate(tags=["mine"])
    assert shop.ask(tags=["mine"])[1]


def test_what_stands_under_a_key_and_is_no_result_is_dropped(shop):
    assert shop.cached(WHOLE)
    (key,) = shop.queries._source.keys("sql:*")
    for nonsense in (
        7,
        {"keys": ["x"]},
        {"keys": ["x"], "rows": [[0]], "entities": [0], "objects": [["os.system", {}, {}]]},
    ):
        shop.queries._source.set(key, nonsense)
        assert [type(row[0]) for row in shop.ask(WHOLE)[0]] == [Customer, Customer]
        assert shop.cached(WHOLE)
    assert shop.queries.stats()["unusable"] == 3
