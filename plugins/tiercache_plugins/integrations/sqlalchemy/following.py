"""What transactions write, heard from sessions and engines, and told once they have ended."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.sql.elements import SavepointClause

from tiercache_plugins.integrations.sqlalchemy.ledger import Ledger
from tiercache_plugins.integrations.sqlalchemy.options import WRITTEN
from tiercache_plugins.integrations.sqlalchemy.tables import Tables

APART: Final = "tiercache apart"
"""In the `info` of a session: that it only loads for another, and is not followed."""

_STATEMENT_WISE: Final = frozenset({"READ COMMITTED", "AUTOCOMMIT"})


class Following:
    """Keeps a ledger for each connection that a session has in a transaction.

    *settle* is called with the engine and the tables once what was written to them may have been committed.
    """

    def __init__(self, settle: Callable[[Engine, set[str]], None]) -> None:
        self._settle = settle
        self._mark = object()
        self._tables = Tables()
        self._engines: weakref.WeakSet[Engine] = weakref.WeakSet()
        self._lock = threading.Lock()

    @property
    def engines(self) -> list[Engine]:
        """The engines that sessions have used so far."""
        with self._lock:
            return list(self._engines)

    def listen(self, target: Any) -> None:
        """Follow the sessions of *target*, a class of sessions or a maker."""
        event.listen(target, "after_begin", self._begun)
        event.listen(target, "after_transaction_end", self._ended)

    def ledgers(self, session: Session) -> list[Ledger]:
        """Return the ledgers of the transaction that *session* is in."""
        return session.info.get(self._mark) or []

    def written(self, session: Session) -> bool:
        """Return whether *session* has written in its transaction, or is going to."""
        if session.new or session.deleted or session.dirty:
            return True
        return any(
            ledger.written or (ledger.committing and not ledger.autocommit)
            for ledger in self.ledgers(session)
        )

    def current(self, connection: Connection) -> Ledger | None:
        """Return the ledger of *connection*."""
        ledger = connection.info.get(self._mark)
        return ledger if isinstance(ledger, Ledger) and not ledger.ended else None

    def sees_commits(self, session: Session, engine: Engine) -> bool:
        """Return whether the next statement of *session* sees all that was committed before it.

        So it is with the first of a transaction, and with every one where each has a view of its own.
        """
        for ledger in self.ledgers(session):
            if ledger.engine is not engine:
                continue
            if ledger.statements and ledger.fresh is None:
                ledger.fresh = _statement_wise(session.connection(bind_arguments={"bind": engine}))
            if ledger.statements:
                return bool(ledger.fresh)
        return True

    def _begun(self, session: Session, transaction: SessionTransaction, connection: Connection) -> None:
        del transaction
        if session.info.get(APART):
            return
        ledgers: list[Ledger] = session.info.setdefault(self._mark, [])
        standing = self.current(connection)
        if standing is not None and standing in ledgers:
            return
        engine = connection.engine
        self._follow(engine)
        ledger = Ledger(engine, autocommit=_autocommit(connection))
        connection.info[self._mark] = ledger
        ledgers.append(ledger)

    def _ended(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is not None or session.info.get(APART):
            return
        ledgers: list[Ledger] = session.info.pop(self._mark, [])
        for ledger in ledgers:
            ledger.ended = True
        for ledger in ledgers:
            if ledger.committing or ledger.autocommit:
                self._told(ledger)

    def _told(self, ledger: Ledger) -> None:
        tables = ledger.written
        ledger.clear()
        if tables:
            self._settle(ledger.engine, tables)

    def _follow(self, engine: Engine) -> None:
        with self._lock:
            if engine in self._engines:
                return
            event.listen(engine, "before_cursor_execute", self._executing)
            event.listen(engine, "after_cursor_execute", self._executed)
            event.listen(engine, "commit", self._committing)
            event.listen(engine, "commit_twophase", self._committing)
            event.listen(engine, "release_savepoint", self._released)
            event.listen(engine, "rollback_savepoint", self._undone)
            self._engines.add(engine)

    def _executing(
        self, connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, many: bool
    ) -> None:
        del cursor, parameters, many
        ledger = self.current(connection)
        if ledger is None:
            return
        ledger.statements += 1
        compiled = None if context is None else context.compiled
        declared = None if context is None else context.execution_options.get(WRITTEN)
        if compiled is not None and isinstance(compiled.statement, SavepointClause):
            # The event for it comes before it has a name.
            ledger.save(compiled.statement.ident)
        found = self._tables.touched(compiled, sql, declared)
        # Before it runs: one that fails half-way has written all the same.
        ledger.write(found.writes)
        if ledger.reads is not None:
            ledger.reads |= found.reads

    def _executed(
        self, connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, many: bool
    ) -> None:
        del cursor, sql, parameters, many
        ledger = self.current(connection)
        if ledger is None:
            return
        if context is not None and context.isddl:
            # Some databases commit what came before by themselves.
            ledger.committing = True
        if ledger.autocommit and ledger.written:
            self._told(ledger)

    def _committing(self, connection: Connection, *about: Any) -> None:
        del about
        ledger = self.current(connection)
        if ledger is not None:
            ledger.committing = True

    def _released(self, connection: Connection, name: str, context: Any) -> None:
        del context
        ledger = self.current(connection)
        if ledger is not None:
            ledger.release(name)

    def _undone(self, connection: Connection, name: str, context: Any) -> None:
        del context
        ledger = self.current(connection)
        if ledger is not None:
            ledger.undo(name)


def _autocommit(connection: Connection) -> bool:
    level = connection.get_execution_options().get("isolation_level")
    if level is None:
        # What `create_engine(isolation_level=…)` said.
        level = getattr(connection.dialect, "_on_connect_isolation_level", None)
    return level == "AUTOCOMMIT"


def _statement_wise(connection: Connection) -> bool:
    if _autocommit(connection):
        return True
    try:
        return connection.get_isolation_level() in _STATEMENT_WISE
    except NotImplementedError:
        return False
