"""Statements about many rows at once; `batches` says why, and binds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

LISTS: Final = (1, 4, 16, 64, 256)
"""Lengths of lists of keys: few, so that all stay prepared."""
FILLER: Final = None
"""What a list is filled up with: no row has it for its key."""
WIDEST: Final = (1, 4, 16, 32)
"""Lengths of lists that are answered in one row; SQLite joins 64 tables at most."""
AT_ONCE: Final = (1, 4, 16, 64)
"""Lengths of lists of rows that one statement changes. No more parameters than SQLite has by itself: 999."""


class Finding(NamedTuple):
    """Two ways to look for the rows of a list of keys, by the length of the list."""

    width: int
    """Columns of a row, of which the first is never NULL."""
    long: Mapping[int, str]
    """A row for each that is found, with its place in the list in front."""
    wide: Mapping[int, str]
    """One row in all, with the columns of each key side by side; NULL for those of a key that has none."""


def finding(*columns: str) -> Finding:
    """Return the statements that find *columns*.

    The list is joined and not chosen from by IN, which sorts it first: a read takes a quarter less. CROSS
    JOIN is how SQLite is told that the list comes first.
    """
    long = {1: f"SELECT 0, {', '.join(columns)} FROM entries WHERE key = ?"}  # noqa: S608 - constants
    for length in LISTS[1:]:
        listed = ", ".join(f"({place}, ?)" for place in range(length))
        long[length] = f"""
            WITH listed (place, asked) AS (VALUES {listed})
            SELECT place, {", ".join(columns)} FROM listed CROSS JOIN entries ON key = asked
        """  # noqa: S608 - constants
    wide = {}
    for length in WIDEST:
        beside = ", ".join(f"e{n}.{column}" for n in range(length) for column in columns)
        joined = " ".join(f"LEFT JOIN entries AS e{n} ON e{n}.key = ?" for n in range(length))
        wide[length] = f"SELECT {beside} FROM (SELECT 1) {joined}"  # noqa: S608 - constants
    return Finding(len(columns), MappingProxyType(long), MappingProxyType(wide))


def for_each(change: str, column: str = "id") -> Mapping[int, str]:
    """Return the statements that make *change* where *column* is one of a list."""
    return MappingProxyType(
        {
            length: f"{change} WHERE {column} IN ({', '.join(f':row{n}' for n in range(length))})"
            for length in AT_ONCE
        }
    )


def numbers(columns: Sequence[str], rows: str) -> str:
    """Return a statement that gives all *rows* as one text, to which `batches.numbers` is the other half.

    What is no whole number is left out of it, as in a damaged row.
    """
    texts = (f"CASE typeof({column}) WHEN 'integer' THEN {column} ELSE '' END" for column in columns)
    text = " || ',' || ".join(texts)
    return f"SELECT group_concat({text}, ';') FROM ({rows})"  # noqa: S608 - constants
