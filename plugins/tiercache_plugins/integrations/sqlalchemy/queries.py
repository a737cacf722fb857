"""QueryCache: results of the queries that ask for it."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, TextClause, event
from sqlalchemy.engine import Result
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import ORMExecuteState, Session

from tiercache import MISSING, Cache, Loaded, SyncCache
from tiercache_plugins.integrations.source import cache_of
from tiercache_plugins.integrations.sqlalchemy.databases import Databases
from tiercache_plugins.integrations.sqlalchemy.following import APART, Following
from tiercache_plugins.integrations.sqlalchemy.frozen import Unusable, frozen, thawed
from tiercache_plugins.integrations.sqlalchemy.keying import Keys
from tiercache_plugins.integrations.sqlalchemy.leading import Left, led, led_here
from tiercache_plugins.integrations.sqlalchemy.makers import session_class
from tiercache_plugins.integrations.sqlalchemy.options import ASKED, Asked
from tiercache_plugins.integrations.sqlalchemy.settling import Settling
from tiercache_plugins.integrations.sqlalchemy.tables import ALL, name_of

_LOG = logging.getLogger("tiercache.sqlalchemy")

_PAST = ("yield_per", "stream_results", "populate_existing")
"""Execution options of statements whose results are not for keeping."""


class QueryCache:
    """Results of queries of sessions, in the cache of *source*: a Cache, or what has one as `cache`.

    Call `install` with what makes the sessions, then let queries ask for it with `cached`. A result ends when
    a transaction of a session that was installed has committed a change of a table that it was read from.

    *route*, *ttl* and *prefix* are those of the entries. *vary* returns what tells results apart beside the
    statement: the tenant or the role of a session, where the database goes by it. *database* names the
    database of an engine for keys and tags, where the URL without user and driver does not: because
    processes reach one database by several, or several by one.
    """

    def __init__(
        self,
        source: Any,
        *,
        route: str | None = None,
        ttl: float | str | timedelta | None = None,
        prefix: str = "sql:",
        vary: Callable[[Session], Any] | None = None,
        database: Callable[[Engine], str] | None = None,
    ) -> None:
        self._source = source
        self._route = route
        self._ttl = ttl
        self._vary = vary
        self._databases = Databases(prefix, database)
        self._keys = Keys(prefix)
        self._following = Following(self._committed)
        self._settling = Settling()
        self._joined: set[bytes] = set()
        self._counts: Counter[str] = Counter()

    def install(self, *targets: Any) -> None:
        """Follow the sessions of *targets*: makers of sessions, sync and async, scoped ones, and classes.

        Install it after all other listeners to `do_orm_execute`: what they change must be in the key. All
        code that writes has to use sessions that are followed. Raises TypeError for anything else.
        """
        for target in targets:
            followed = session_class(target)
            event.listen(followed, "do_orm_execute", self._execute, retval=True)
            self._following.listen(followed)

    async def invalidate(self, *tables: str, engine: Any = None) -> None:
        """Drop all results that were read from one of *tables*; without any, those of the whole database.

        For what was written elsewhere: after the commit. *engine* may be left out where sessions have used
        one alone. Raises ValueError where they have not.
        """
        await self._cache().invalidate(tags=self._tags(self._engine(engine), tables or (ALL,)))

    def invalidate_sync(self, *tables: str, engine: Any = None) -> None:
        """As `invalidate`, for threads."""
        self._face().invalidate(tags=self._tags(self._engine(engine), tables or (ALL,)))

    def stats(self) -> dict[str, int]:
        """Return what was counted in this process.

        `hits`, `misses`; `passed` is what the database was asked for past the cache, by reasons: `written`
        (in a transaction that writes), `snapshot` (a transaction that may see an older state), `owed` (an
        invalidation is not through), `closed`, `unfit`. `invalidations`, and `failed` ones.
        """
        names = (
            "hits", "misses", "passed", "written", "snapshot", "owed", "closed", "unfit", "unusable",
        )  # fmt: skip
        return {name: self._counts[name] for name in names} | self._settling.counts()

    def _cache(self) -> Cache:
        if isinstance(self._source, SyncCache):
            raise TypeError(
                "an AsyncSession needs a Cache that was started on its event loop, not a SyncCache"
            )
        return cache_of(self._source)

    def _face(self) -> SyncCache:
        return self._source if isinstance(self._source, SyncCache) else cache_of(self._source).sync

    def _tags(self, engine: Engine, tables: Any) -> list[str]:
        return [self._databases.tag(engine, name_of(table)) for table in tables]

    def _engine(self, engine: Any) -> Engine:
        if engine is not None:
            followed: Engine = getattr(engine, "sync_engine", engine)
            return followed
        known = {self._databases.of(each): each for each in self._following.engines}
        if len(known) != 1:
            raise ValueError(f"sessions have used {len(known)} databases so far; tell which by engine=")
        return next(iter(known.values()))

    def _committed(self, engine: Engine, tables: set[str]) -> None:
        tags = self._tags(engine, sorted(tables))
        try:
            if engine.dialect.is_async and not isinstance(self._source, SyncCache):
                self._settling.awaited(self._cache(), tags)
            else:
                cache = None if isinstance(self._source, SyncCache) else self._cache()
                self._settling.settle(self._face(), cache, tags)
        except Exception:  # noqa: BLE001 - whatever it is, it must not be raised from a commit
            # The transaction is committed: the application must not be told that it failed.
            _LOG.exception("could not look for the cache after a commit")
            self._settling.owe(tags)

    def _passed(self, why: str) -> None:
        self._counts["passed"] += 1
        self._counts[why] += 1

    def _execute(self, state: ORMExecuteState) -> Result[Any] | None:
        asked = state.execution_options.get(ASKED)
        session = state.session
        if asked is None or session.info.get(APART):
            return None
        if not isinstance(asked, Asked):
            raise TypeError(f"the option {ASKED} is what `cached()` returns, not {type(asked).__name__}")
        if state.is_relationship_load or state.is_column_load:
            return None
        text = isinstance(state.statement, TextClause)
        if not (state.is_select or text):
            raise TypeError(f"only what selects can be cached, not {type(state.statement).__name__}")
        if text and not asked.tables:
            raise TypeError("nobody knows what text reads: say it, as in cached(tables=('orders',))")
        if state._remaining_events():  # noqa: SLF001 - nothing public tells it
            raise RuntimeError(
                "another listener to do_orm_execute stands behind the query cache, and could change what is "
                "asked for; install the cache after all others"
            )
        engine = session.get_bind(**state.bind_arguments)
        if self._unfit(state) or not isinstance(engine, Engine):
            self._passed("unfit")
            return None
        return self._read(state, asked, engine)

    def _unfit(self, state: ORMExecuteState) -> bool:
        options = state.execution_options
        return (
            any(options.get(name) for name in _PAST)
            # `Session.query` goes by more than the result tells.
            or getattr(options.get("_sa_orm_load_options"), "_legacy_uniquing", False)
            or isinstance(state.parameters, list | tuple)
            or getattr(state.statement, "_for_update_arg", None) is not None
        )

    def _read(self, state: ORMExecuteState, asked: Asked, engine: Engine) -> Result[Any] | None:
        session = state.session
        if self._following.written(session):
            self._passed("written")
            return None
        source = self._cache() if engine.dialect.is_async else self._face()
        opened = source.is_open if isinstance(source, Cache) else True
        if not opened:
            self._passed("closed")
            return None
        if self._settling.owes(source):
            self._passed("owed")
            return None
        more = (
            None if self._vary is None else self._vary(session),
            engine.get_execution_options().get("schema_translate_map"),
            state.execution_options.get("schema_translate_map"),
        )
        key, plan = self._keys.key(
            state.statement, state.parameters, engine.dialect, self._databases.whole(engine), more
        )
        if plan.touched.writes:
            raise TypeError("only what selects can be cached; this statement writes as well")
        found = self._found(source, key)
        if found is not MISSING:
            self._counts["hits"] += 1
        elif not self._following.sees_commits(session, engine):
            # What a snapshot shows may be older than an invalidation that is older than this load.
            self._passed("snapshot")
            return None
        else:
            self._counts["misses"] += 1
            found = self._loaded(source, key, state, asked, plan.text)
            if found is MISSING:
                return None
        try:
            return thawed(found, session, state.all_mappers, _expressions(state.statement))
        except Unusable:
            self._counts["unusable"] += 1
            self._dropped(source, key)
            return None

    def _found(self, source: Cache | SyncCache, key: str) -> Any:
        if isinstance(source, Cache):
            return self._settling.wait(source.get(key, MISSING, route=self._route))
        return source.get(key, MISSING, route=self._route)

    def _dropped(self, source: Cache | SyncCache, key: str) -> None:
        if isinstance(source, Cache):
            self._settling.wait(source.delete(key))
        else:
            source.delete(key)

    def _loaded(
        self, source: Cache | SyncCache, key: str, state: ORMExecuteState, asked: Asked, plan: bytes
    ) -> Any:
        """Return what the database brings, here or at whoever asks for the same; MISSING where that fails."""
        ttl = self._ttl if asked.ttl is None else asked.ttl

        def load() -> Loaded:
            return self._asked_for(state, asked, plan)

        for _ in range(2):
            try:
                if isinstance(source, Cache):
                    return led(source, key, load, route=self._route, ttl=ttl, tags=asked.tags)
                return led_here(source, key, load, route=self._route, ttl=ttl, tags=asked.tags)
            except Left:
                # Whoever loaded for all has left: be the next one, but not one after the other for ever.
                continue
        return MISSING

    def _asked_for(self, state: ORMExecuteState, asked: Asked, plan: bytes) -> Loaded:
        """Ask the database in the transaction of the session, for what no other object of it has a part in.

        The session has objects as they were when it read them, and would give those. So a session of its own
        asks, on the same connection.
        """
        session = state.session
        connection = session.connection(bind_arguments=dict(state.bind_arguments))
        ledger = self._following.current(connection)
        options = {
            name: value
            for name, value in state.local_execution_options.items()
            if name != ASKED and not name.startswith("_sa_")
        }
        info = {**session.info, APART: True}
        made = functools.partial(type(session), bind=connection, info=info, autoflush=False)
        with made(join_transaction_mode="rollback_only") as apart:
            if ledger is not None:
                ledger.reads = set()
            try:
                value = self._rows(apart, state, options, plan)
                reads = set() if ledger is None else ledger.reads or set()
            finally:
                if ledger is not None:
                    ledger.reads = None
        tables = {*reads, *(name_of(table) for table in asked.tables), ALL}
        store = ledger is not None and not ledger.written
        return Loaded(value, more_tags=tuple(self._tags(connection.engine, sorted(tables))), store=store)

    def _rows(
        self, session: Session, state: ORMExecuteState, options: dict[str, Any], plan: bytes
    ) -> dict[str, Any]:
        """Return what the statement brings, in the form that is kept."""
        result = session.execute(state.statement, state.parameters, execution_options=options)
        keys = tuple(result.keys())
        if plan not in self._joined:
            try:
                return frozen(keys, result.all())
            except InvalidRequestError:
                # Entities with collections, by a join: SQLAlchemy gives them when told to make each one once.
                result = session.execute(state.statement, state.parameters, execution_options=options)
                rows = result.unique().all()
                self._joined.add(plan)
                return frozen(keys, rows)
        return frozen(keys, result.unique().all())


def _expressions(statement: Any) -> list[Any]:
    """Return the expressions that stand for the columns of the rows of *statement*."""
    described = getattr(statement, "column_descriptions", ())
    return [each.get("expr") for each in described]
