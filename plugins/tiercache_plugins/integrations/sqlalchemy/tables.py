"""Which tables a statement reads, and which it writes."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Delete, Table, TableClause, Update
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import TextClause

ALL: Final = "*"
"""Stands for every table of a database."""

_HARMLESS: Final = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(?:select|values|show|set|begin|savepoint|release|pragma)\b",
    re.IGNORECASE | re.DOTALL,
)
_INTO: Final = re.compile(r"\binto\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Touched:
    """The tables of a statement, by their names in lower case, without their schemas.

    Schemas are left out because a table may be named with its schema and without: to end too much is safe.
    """

    reads: frozenset[str]
    writes: frozenset[str]


NOTHING: Final = Touched(frozenset(), frozenset())
_WHOLE: Final = Touched(frozenset(), frozenset((ALL,)))


class Tables:
    """Remembers what compiled statements touch: SQLAlchemy compiles a statement once, and runs it often."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[Any, Touched] = weakref.WeakKeyDictionary()

    def touched(self, compiled: Any, sql: str, declared: Iterable[str] | None) -> Touched:
        """Return what a statement touches; *compiled* is None for *sql* that was given to the driver.

        *declared* is what text was said to write.
        """
        statement = None if compiled is None else compiled.statement
        if declared is not None:
            known = NOTHING if statement is None else self._of(compiled, statement)
            return Touched(known.reads, (known.writes - {ALL}) | {name_of(table) for table in declared})
        if statement is None:
            return of_text(sql)
        return self._of(compiled, statement)

    def _of(self, compiled: Any, statement: Any) -> Touched:
        known = self._known.get(compiled)
        if known is None:
            state = getattr(compiled, "compile_state", None)
            known = touched(statement, getattr(state, "statement", None))
            self._known[compiled] = known
        return known


def touched(*statements: Any) -> Touched:
    """Return what *statements* touch: one statement, and what the ORM has made of it."""
    reads: set[str] = set()
    written: set[str] = set()
    for statement in statements:
        if statement is None:
            continue
        if isinstance(statement, ExecutableDDLElement):
            return _WHOLE
        for element in visitors.iterate(statement):
            if isinstance(element, TableClause):
                reads.add(name_of(element.name))
            elif isinstance(element, UpdateBase):
                written.update(_written(element))
            elif isinstance(element, TextClause) and element is statement:
                written |= of_text(element.text).writes
    return Touched(frozenset(reads), frozenset(written))


def of_text(sql: str) -> Touched:
    """Return what text touches as far as its first word tells: nothing, or whatever there is."""
    return NOTHING if _HARMLESS.match(sql) and not _INTO.search(sql) else _WHOLE


def name_of(table: str) -> str:
    """Return *table* as tags have it: without its schema, in lower case."""
    return table.rpartition(".")[2].lower()


def _written(statement: UpdateBase) -> Iterator[str]:
    target: Any = getattr(statement, "table", None)
    for element in visitors.iterate(target):
        if not isinstance(element, TableClause):
            continue
        yield name_of(element.name)
        if isinstance(element, Table) and isinstance(statement, Delete | Update):
            rule = "ondelete" if isinstance(statement, Delete) else "onupdate"
            yield from _dependents(element, rule, set())


def _dependents(table: Table, rule: str, seen: set[str]) -> Iterator[str]:
    """Yield the tables that the database changes of itself with *table*, by their foreign keys."""
    for other in table.metadata.tables.values():
        if other.fullname in seen:
            continue
        for key in other.foreign_key_constraints:
            action = (getattr(key, rule) or "").upper()
            if action in {"CASCADE", "SET NULL", "SET DEFAULT"} and key.referred_table.name == table.name:
                seen.add(other.fullname)
                yield name_of(other.name)
                # Rows that lose their reference are updated, and only deleted ones take others along.
                yield from _dependents(other, rule if action == "CASCADE" else "onupdate", seen)
                break
