"""Two sessions and a reader on one database, against a model of what was committed.

A read outside of a writing transaction is never older than the last commit that ended before it began, and
a transaction that has written sees what it wrote.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from sqlalchemy import event, select, text, update
from sqlalchemy.orm import sessionmaker

from orders import Customer, database
from tiercache import Cache
from tiercache_plugins.integrations.sqlalchemy import QueryCache, cached, writes

MEMORY = {"tier": {"memory": {"type": "memory"}}, "route": {"all": {"tiers": ["memory"], "ttl": "1h"}}}
NAME = select(Customer.name).where(Customer.id == 1)
WHOLE = select(Customer).where(Customer.id == 1)


class Machine(RuleBasedStateMachine):
    """One session writes, another reads in transactions of its own, a third comes and goes."""

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.engine, _ = database(Path(self.directory.name) / "shop.db")
        event.listen(
            self.engine, "connect", lambda connection, record: setattr(connection, "isolation_level", None)
        )
        event.listen(self.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        self.engine.dispose()
        self.cache = Cache.open_sync(MEMORY)
        self.sessions = sessionmaker(self.engine)
        with self.sessions.begin() as session:
            session.add(Customer(id=1, name="0"))
        QueryCache(self.cache).install(self.sessions)
        self.writer, self.reader = self.sessions(), self.sessions()
        self.committed = 0
        self.levels = []
        """What the writer sees: its savepoints, the innermost last; empty where it has not written."""
        self.savepoints = []
        self.since = None
        """What was committed when the reader's transaction began to read from the database, at the latest."""
        self.last = 0

    @rule(kind=st.sampled_from(["entity", "bulk", "core", "text", "told"]))
    def write(self, kind):
        self.last += 1
        name = str(self.last)
        if kind == "entity":
            self.writer.get(Customer, 1).name = name
        elif kind == "bulk":
            self.writer.execute(update(Customer).where(Customer.id == 1).values(name=name))
        elif kind == "core":
            self.writer.connection().execute(update(Customer.__table__).values(name=name))
        else:
            told = writes("customers") if kind == "told" else {}
            self.writer.execute(
                text("update customers set name = :name"), {"name": name}, execution_options=told
            )
        if kind != "entity":
            self.writer.expire_all()
        self.levels = [*self.levels, self.last]

    @precondition(lambda self: self.levels and len(self.savepoints) < 3)
    @rule()
    def save(self):
        self.writer.flush()
        self.savepoints.append((self.writer.begin_nested(), list(self.levels)))

    @precondition(lambda self: self.savepoints)
    @rule(keep=st.booleans())
    def leave(self, keep):
        savepoint, before = self.savepoints.pop()
        if keep:
            savepoint.commit()
        else:
            savepoint.rollback()
            self.levels = before

    @rule(keep=st.booleans())
    def end(self, keep):
        while self.savepoints:
            self.leave(keep=True)
        if keep:
            self.writer.commit()
            self.committed = self.levels[-1] if self.levels else self.committed
        else:
            self.writer.rollback()
        self.levels = []

    @precondition(lambda self: self.levels)
    @rule()
    def the_writer_sees_what_it_wrote(self):
        assert self.writer.scalar(NAME, execution_options=cached()) == str(self.levels[-1])

    @rule(whole=st.booleans())
    def read_within_a_transaction(self, whole):
        if self.since is None:
            self.since = self.committed
        if whole:
            self.reader.expunge_all()
            name = self.reader.scalar(WHOLE, execution_options=cached()).name
        else:
            name = self.reader.scalar(NAME, execution_options=cached())
        assert self.since <= int(name) <= self.committed

    @rule()
    def end_reading(self):
        self.reader.rollback()
        self.since = None

    @rule(whole=st.booleans())
    def read(self, whole):
        with self.sessions() as session:
            if whole:
                assert session.scalar(WHOLE, execution_options=cached()).name == str(self.committed)
            else:
                assert session.scalar(NAME, execution_options=cached()) == str(self.committed)

    def teardown(self):
        self.writer.close()
        self.reader.close()
        self.cache.close()
        self.engine.dispose()
        self.directory.cleanup()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
