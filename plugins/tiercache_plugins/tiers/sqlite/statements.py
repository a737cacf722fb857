"""The schema, and every statement that is prepared once and bound afterwards.

The frame stands last, so that its overflow pages are not touched by a look at the columns before it. The
table has ordinary row ids: a table clustered by key would drag frames through every comparison of keys.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from zlib import crc32

from tiercache_plugins.tiers.sqlite.lists import AT_ONCE, finding, for_each, numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tiercache import Order

APPLICATION: Final = 0x74436C31
"""`PRAGMA application_id`: tells our databases from anybody's."""
VERSION: Final = 2
"""`PRAGMA user_version`: of the schema."""
OUTLIVED: Final = frozenset({1})
"""Schemas that this one replaces: their entries are dropped, as they may be in any cache."""
PAGE: Final = 4096
"""Bytes of a page. Each row that is written has its page summed, appended to the log and copied from there:
with 8 KiB a small row takes a quarter longer in all, with 2 KiB a tenth less. A frame of 100 KiB takes as
long with 8 KiB, and a quarter longer with 2 KiB.
"""
UPKEEP: Final = 184
"""Bytes that a row takes beside key (twice: in the table and in its index) and frame."""
CHUNK: Final = 100
"""Rows that one step of eviction or expiry takes."""

# Before the first table: auto_vacuum can't be changed afterwards without rewriting the file.
LAYOUT: Final = (f"PRAGMA page_size = {PAGE}", "PRAGMA auto_vacuum = INCREMENTAL")

CONDUCT: Final = (
    "PRAGMA synchronous = NORMAL",
    "PRAGMA mmap_size = 0",
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA cache_size = -8192",
    "PRAGMA temp_store = MEMORY",
)

SCHEMA: Final = (
    """
    CREATE TABLE entries (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        expires INTEGER NOT NULL,
        created INTEGER NOT NULL,
        last_read INTEGER NOT NULL,
        reads INTEGER NOT NULL,
        size INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        due INTEGER NOT NULL,
        placed_read INTEGER NOT NULL,
        placed_reads INTEGER NOT NULL,
        frame BLOB NOT NULL
    )
    """,
    # Not `<`: a second upper bound would be taken for the one to seek by, and the index walked to its end.
    "CREATE INDEX expiry ON entries (due) WHERE due <> 9223372036854775807",
    "CREATE TABLE totals (id INTEGER PRIMARY KEY CHECK (id = 1), entries INTEGER, bytes INTEGER)",
    "INSERT INTO totals VALUES (1, 0, 0)",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {VERSION}",
)

MARKERS: Final = """
    CREATE TABLE IF NOT EXISTS markers (
        namespace BLOB NOT NULL,
        name BLOB NOT NULL,
        stamp INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (namespace, name)
    ) WITHOUT ROWID
"""
"""A few thousand rows beside the entries, which nothing evicts."""
NOTES: Final = """
    CREATE TABLE IF NOT EXISTS notes (
        namespace BLOB NOT NULL,
        name BLOB NOT NULL,
        note BLOB NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (namespace, name)
    ) WITHOUT ROWID
"""
REMEMBER: Final = "INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?)"
RECALL: Final = "SELECT note, checksum FROM notes WHERE namespace = ? AND name = ?"

RAISE: Final = """
    INSERT INTO notes VALUES (?, x'', random() & 4611686018427387903, 0)
    ON CONFLICT DO UPDATE SET note = (note + 1) & 4611686018427387903
"""
"""Counts how often markers rose, from a number by chance on: after a new file none comes again."""
RAISED: Final = "SELECT note FROM notes WHERE namespace = ? AND name = x''"
HEAD: Final = "SELECT substr(frame, 1, 48) FROM entries WHERE key = ? AND expires > ?"

CHANGES: Final = (
    """
    CREATE TABLE IF NOT EXISTS changes (
        number INTEGER PRIMARY KEY,
        sender BLOB NOT NULL,
        told BLOB NOT NULL,
        checksum INTEGER NOT NULL
    )
    """,
    "INSERT OR IGNORE INTO changes VALUES (0, randomblob(8), x'', 0)",
)
"""What transactions changed, by number; the row 0 is the name of the file itself."""
KEPT: Final = 4096
"""Transactions that are remembered for those who follow."""
TELL: Final = "INSERT INTO changes (sender, told, checksum) VALUES (?, ?, ?)"
UNTELL: Final = f"DELETE FROM changes WHERE number > 0 AND number <= ? - {KEPT}"  # noqa: S608 - a constant
TOLD_AT_ONCE: Final = 500
TOLD: Final = f"""
    SELECT number, sender, told, checksum FROM changes WHERE number > ? ORDER BY number LIMIT {TOLD_AT_ONCE}
"""  # noqa: S608 - a constant
FIRST_AND_LAST: Final = """
    SELECT (SELECT sender FROM changes WHERE number = 0),
        (SELECT min(number) FROM changes WHERE number > 0), (SELECT max(number) FROM changes)
"""
NOTED: Final = (
    "CREATE TABLE IF NOT EXISTS noted (row INTEGER PRIMARY KEY, times INTEGER NOT NULL, at INTEGER NOT NULL)",
    """
    CREATE TRIGGER IF NOT EXISTS noted_goes AFTER DELETE ON entries
    BEGIN DELETE FROM noted WHERE row = old.id; END
    """,
)
"""Reads that the rows themselves do not know of yet. Two hundred rows share a page here, and a dozen there:
noted in the rows, each read among a million would dirty a page of its own.
"""
NOTED_AT_ONCE: Final = 128
"""Rows of one statement; see `batches`."""
NOTE_READS: Final = f"""
    INSERT INTO noted VALUES {", ".join(["(?, ?, ?)"] * NOTED_AT_ONCE)}
    ON CONFLICT DO UPDATE SET times = times + excluded.times, at = max(at, excluded.at)
"""  # noqa: S608 - a constant
SWEEP_TO: Final = "SELECT max(row) FROM (SELECT row FROM noted WHERE row > ? ORDER BY row LIMIT ?)"
SWEEP: Final = """
    DELETE FROM noted WHERE row IN (
        SELECT row FROM noted LEFT JOIN entries ON id = row WHERE row > ? AND row <= ? AND id IS NULL
    )
"""
"""Drops notes of rows that went before the note was written."""

MARKED: Final = "SELECT name, stamp, checksum FROM markers WHERE namespace = ?"
STANDING_MARK: Final = "SELECT stamp, checksum FROM markers WHERE namespace = ? AND name = ?"
MARK: Final = "INSERT OR REPLACE INTO markers VALUES (?, ?, ?, ?)"
UNMARK: Final = "DELETE FROM markers WHERE namespace = ? AND name = ?"
UNMARK_BELOW: Final = "DELETE FROM markers WHERE namespace = ? AND stamp < ?"

LOCKS: Final = """
    CREATE TABLE IF NOT EXISTS locks (
        name BLOB PRIMARY KEY,
        token BLOB NOT NULL,
        expires INTEGER NOT NULL,
        fence INTEGER NOT NULL,
        kept INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    ) WITHOUT ROWID
"""
"""Who holds what until when; the fence is remembered until `kept`."""
LOCK: Final = "SELECT token, expires, fence, kept, checksum FROM locks WHERE name = ?"
SET_LOCK: Final = "INSERT OR REPLACE INTO locks VALUES (?, ?, ?, ?, ?, ?)"
UNLOCK: Final = "DELETE FROM locks WHERE name = ?"
LOCKED: Final = "SELECT name FROM locks WHERE name >= ? AND name < ?"
UNLOCK_OVER: Final = "DELETE FROM locks WHERE max(expires, kept) <= ?"

PROBES: Final = (
    """
    SELECT id, key, expires, created, last_read, reads, size, checksum, due, placed_read, placed_reads, frame
    FROM entries LIMIT 1
    """,
    "SELECT entries, bytes FROM totals WHERE id = 1",
)
"""What a database of ours must answer."""

READ: Final = finding("id", "expires", "checksum", "frame")
STANDING: Final = finding("id", "expires", "checksum", "size", "due", "frame")
GOING: Final = finding("id", "expires", "size")
INSERT: Final = """
    INSERT INTO entries (
        key, expires, created, last_read, reads, size, checksum, due, placed_read, placed_reads, frame
    ) VALUES (?1, ?2, ?3, ?3, 0, ?4, ?5, ?2, ?3, 0, ?6)
"""
REWRITE: Final = (
    "UPDATE entries SET expires = ?, last_read = ?, size = ?, checksum = ?, frame = ? WHERE id = ?"
)
"""Names no column of the index of expiry, which therefore is not touched."""
REWRITE_SOONER: Final = """
    UPDATE entries SET expires = ?1, last_read = ?2, size = ?3, checksum = ?4, frame = ?5, due = ?1
    WHERE id = ?6
"""
"""For a row that expires before it was to be looked at."""


def _saves(beside: str) -> Mapping[int, str]:
    """Return the statements that store a list of rows, new or standing. Parameters: now; then key, expiry,
    size, checksum and frame of each.
    """
    statements = {}
    for length in AT_ONCE[1:]:
        rows = ", ".join(
            f"(?{n + 2}, ?{n + 3}, ?1, ?1, 0, ?{n + 4}, ?{n + 5}, ?{n + 3}, ?1, 0, ?{n + 6})"
            for n in range(0, 5 * length, 5)
        )
        statements[length] = f"""
            INSERT INTO entries (
                key, expires, created, last_read, reads, size, checksum, due, placed_read, placed_reads, frame
            ) VALUES {rows} ON CONFLICT (key) DO UPDATE SET expires = excluded.expires,
                last_read = excluded.last_read, size = excluded.size, checksum = excluded.checksum,
                frame = excluded.frame{beside}
        """  # noqa: S608 - constants
    return MappingProxyType(statements)


SAVE: Final = _saves("")
"""What `INSERT` or `REWRITE` does."""
SAVE_SOONER: Final = _saves(", due = excluded.due")
"""What `REWRITE_SOONER` does."""
COUNTER: Final = "SELECT expires, frame FROM entries WHERE id = ?"
DROP: Final = for_each("DELETE FROM entries")
UNNOTE: Final = for_each("DELETE FROM noted", "row")
DROP_DAMAGED: Final = "DELETE FROM entries WHERE id = ? AND checksum = ? RETURNING size"
NOTE: Final = MappingProxyType(
    {
        length: f"""
            WITH told (row, times, at) AS (VALUES {", ".join(["(?, ?, ?)"] * length)})
            UPDATE entries SET reads = reads + times, last_read = max(last_read, at) FROM told WHERE id = row
        """  # noqa: S608 - constants
        for length in AT_ONCE
    }
)
"""Parameters: row, how often it was read and when last, of each."""

DUE: Final = numbers(
    ("id", "expires", "size"),
    f"""
        SELECT id, expires, size FROM entries WHERE due <> 9223372036854775807 AND due <= ?
        ORDER BY due LIMIT {CHUNK}
    """,  # noqa: S608 - a constant
)
"""What may have expired: a row is due when it first would have; rewritten, it lives on."""
POSTPONE: Final = for_each("UPDATE entries SET due = expires")
PLACE: Final = for_each("UPDATE entries SET placed_read = last_read, placed_reads = reads")
SCAN: Final = """
    SELECT key FROM entries WHERE key >= ? AND key < ? AND expires > ? ORDER BY key LIMIT 500
"""
WITHIN: Final = numbers(("id", "size"), "SELECT id, size FROM entries WHERE key >= ? AND key < ? LIMIT 500")

TOTALS: Final = "SELECT entries, bytes FROM totals WHERE id = 1"
RECOUNT: Final = "SELECT count(*), CAST(total(size) AS INTEGER) FROM entries"
SET_TOTALS: Final = "INSERT OR REPLACE INTO totals VALUES (1, ?, ?)"
TABLES: Final = "SELECT count(*) FROM sqlite_master"
OWN_TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'"
ORDERS: Final = "SELECT name FROM sqlite_master WHERE type = 'index' AND name GLOB 'order_*'"


_RISING: Final = re.compile(r"created|last_read|reads|reads >=? \d+")
"""Terms whose value only rises as a row is read and written."""


class Ranking:
    """The statements of one policy's order. Its terms are code of the policy, never input.

    Where the terms only rise, the index is over copies of the columns, made when the row was last placed: a
    read or a rewrite then touches the row alone. What the index says is a lower bound, and whoever evicts
    places anew what has moved before it goes on: exact all the same, and an index of a million rows is
    written when a row comes to its front, not at every read.
    """

    __slots__ = ("chance", "first", "index", "name", "rises", "watches")

    def __init__(self, order: Order) -> None:
        by = order.by
        moved = "0"
        if all(_RISING.fullmatch(term) for term in by):
            by = tuple(re.sub(r"\b(last_read|reads)\b", _placed, term) for term in order.by)
            moved = " OR ".join(f"({was}) <> ({term})" for was, term in zip(by, order.by, strict=True))
        terms = ", ".join(by)
        self.name = f"order_{crc32(terms.encode()):08x}"
        """Of the index, which is made anew where the policy changes."""
        self.index = f"CREATE INDEX {self.name} ON entries ({terms})"
        # A condition may be of any type, and what is read is a whole number.
        spared = f"({order.spared}) IS TRUE" if order.spared else "0"
        self.rises = moved != "0"
        """Whether reads and writes only ever move a row back."""
        self.first = numbers(
            ("id", "size", "chance", "moved", "times", "at"),
            f"""
                SELECT id, size, {spared} AS chance, {moved} AS moved, times, at
                FROM entries LEFT JOIN noted ON row = id ORDER BY {terms} LIMIT {CHUNK}
            """,  # noqa: S608 - of the policy
        )
        """The first to go, whether each is spared, whether it stands further back by now, and what it has not
        been told of.
        """
        self.chance = for_each(f"UPDATE entries SET {order.chance}") if order.chance else {}  # noqa: S608
        said = f"{', '.join(order.by)} {order.spared} {order.chance}"
        self.watches = "reads" in said or "last_read" in said
        """Whether the order depends on reads; otherwise nobody notes them."""


def _placed(column: re.Match[str]) -> str:
    return {"last_read": "placed_read", "reads": "placed_reads"}[column[0]]
