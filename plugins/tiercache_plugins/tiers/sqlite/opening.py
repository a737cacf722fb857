"""Making a database ready, and judging one that seems broken."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from typing import Final

from tiercache import TierRefused
from tiercache_plugins.tiers.sqlite import statements as sql
from tiercache_plugins.tiers.sqlite.place import Place

log = logging.getLogger("tiercache.tier")

OLDEST: Final = (3, 35, 0)
"""The first SQLite that has RETURNING."""
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_SUSPICIOUS: Final = _CORRUPT | {sqlite3.SQLITE_ERROR}


class Foreign(Exception):
    """The database is not ours, or of another version."""

    def __init__(self, reason: str, *, ours: bool) -> None:
        super().__init__(reason)
        self.ours = ours
        """Whether it answers as one of ours all the same."""


def suspicious(error: BaseException) -> bool:
    """Return whether *error* may mean that the file is damaged.

    A full disk, a lock held too long or a failing device say nothing about the file, nor does what a caller
    did wrong.
    """
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.ProgrammingError):
        code = getattr(error, "sqlite_errorcode", None)
        # A short read is a file that was cut off.
        return code is None or (code & 0xFF) in _SUSPICIOUS or code == sqlite3.SQLITE_IOERR_SHORT_READ
    # Messages of SQLite may quote what the file says.
    return isinstance(error, UnicodeDecodeError)


def says_corrupt(error: BaseException) -> bool:
    """Return whether SQLite itself calls the file damaged."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _CORRUPT


def prepare(connection: sqlite3.Connection, ranking: sql.Ranking) -> None:
    """Lay out a new database, or see that an old one is ours, and set the connection up. Lock held.

    Raises Foreign where it is not, and sqlite3.Error where it is damaged.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if (application, version) == (0, 0) and connection.execute(sql.TABLES).fetchone() == (0,):
        for statement in sql.LAYOUT:
            connection.execute(statement)
        connection.execute("PRAGMA journal_mode = WAL")
        _lay_out(connection)
    elif application != sql.APPLICATION:
        raise Foreign("it is the database of another application", ours=_answers(connection))
    elif version in sql.OUTLIVED:
        _lay_out(connection)
    elif version != sql.VERSION:
        raise Foreign(
            f"it has the schema {version} of tiercache's; this release reads and writes schema {sql.VERSION}",
            ours=_answers(connection),
        )
    # Also in a database that exists: whoever made it may have died before.
    connection.execute("PRAGMA journal_mode = WAL")
    for statement in sql.CONDUCT:
        connection.execute(statement)
    for statement in sql.PROBES:
        connection.execute(statement).fetchall()
    connection.execute(sql.MARKERS)
    for statement in (sql.LOCKS, sql.NOTES, *sql.NOTED, *sql.CHANGES):
        connection.execute(statement)
    orders = {name.decode() for (name,) in connection.execute(sql.ORDERS).fetchall()}
    if ranking.name not in orders:
        connection.execute("BEGIN IMMEDIATE")
        for name in orders:
            connection.execute(f'DROP INDEX "{name}"')
        connection.execute(ranking.index)
        connection.execute("COMMIT")


def _lay_out(connection: sqlite3.Connection) -> None:
    """Make the tables, in place of those of an older schema."""
    connection.execute("BEGIN IMMEDIATE")
    for (name,) in connection.execute(sql.OWN_TABLES).fetchall():
        connection.execute(f'DROP TABLE "{name.decode()}"')
    for statement in sql.SCHEMA:
        connection.execute(statement)
    connection.execute("COMMIT")


def _answers(connection: sqlite3.Connection) -> bool:
    try:
        for statement in sql.PROBES:
            connection.execute(statement).fetchall()
    except sqlite3.Error:
        return False
    return True


def broken(place: Place) -> bool:
    """Return whether a fresh connection agrees that the database is damaged. Lock held.

    One failing read is no proof: SQLite reports a device's passing error as damage. The check is the whole
    one, which a gigabyte takes seconds for: the quick one passes over indexes that lack rows.
    """
    try:
        with contextlib.closing(
            sqlite3.connect(place.text, isolation_level=None, timeout=place.patience)
        ) as probe:
            (application,) = probe.execute("PRAGMA application_id").fetchone()
            if application == sql.APPLICATION and not _answers(probe):
                return True
            return bool(probe.execute("PRAGMA integrity_check(1)").fetchall() != [("ok",)])
    except Exception as error:  # noqa: BLE001 - a damaged file raises whatever its bytes lead to
        return suspicious(error)


def settle(place: Place, opened: tuple[int, int] | None, stamp: int, *, certain: bool) -> bool:
    """Put the database aside if it is damaged; return whether it was.

    *opened* is the file that the trouble was with: another process may have put it aside already.
    *certain*: it failed again and again, whatever a check says.
    """
    with place.held():
        if opened is not None and place.identity() != opened:
            return False
        if not (certain or broken(place)):
            return False
        aside = place.put_aside(stamp)
    log.warning("%s is damaged and was put aside as %s; a new one is begun", place.text, aside.name)
    return True


def refusal(place: Place, reason: object) -> TierRefused:
    """Return the error for a file that must not be touched."""
    return TierRefused(
        f"{place.text}: {reason}; a path where nothing stands, or a cache of tiercache, is accepted"
    )
