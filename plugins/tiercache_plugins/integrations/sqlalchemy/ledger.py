"""What one transaction has done so far on one connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Ledger:
    """The tables that a transaction wrote, by savepoint."""

    __slots__ = (
        "_levels",
        "autocommit",
        "committing",
        "ended",
        "engine",
        "fresh",
        "reads",
        "statements",
    )

    def __init__(self, engine: Any, *, autocommit: bool) -> None:
        self.engine = engine
        self.autocommit = autocommit
        """Whether each statement commits by itself."""
        self.committing = False
        """Whether a commit was tried: from then on nobody knows but the database."""
        self.ended = False
        self.reads: set[str] | None = None
        """Where a load is under way: the tables that it has read so far."""
        self.fresh: bool | None = None
        """Whether each statement sees what was committed before it; None: nobody has asked yet."""
        self.statements = 0
        self._levels: list[tuple[str, set[str]]] = [("", set())]

    @property
    def written(self) -> set[str]:
        """The tables that would be changed by a commit now."""
        return set().union(*(tables for _, tables in self._levels))

    def write(self, tables: Iterable[str]) -> None:
        """Note that *tables* were written."""
        self._levels[-1][1].update(tables)

    def clear(self) -> None:
        """Begin anew, after what was written has been settled."""
        self._levels = [("", set())]

    def save(self, name: str) -> None:
        """Note that a savepoint was set."""
        self._levels.append((name, set()))

    def release(self, name: str) -> None:
        """Note that a savepoint was released: what was written since is the transaction's."""
        for tables in self._cut(name):
            self.write(tables)

    def undo(self, name: str) -> None:
        """Note that the transaction went back to a savepoint, and has written nothing since.

        Of one that is not known everything stays: to end too much is safe.
        """
        self._cut(name)

    def _cut(self, name: str) -> list[set[str]]:
        for position in range(len(self._levels) - 1, 0, -1):
            if self._levels[position][0] == name:
                cut = [tables for _, tables in self._levels[position:]]
                del self._levels[position:]
                return cut
        return []
