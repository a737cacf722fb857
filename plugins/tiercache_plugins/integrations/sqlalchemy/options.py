"""What statements say about caching, as execution options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

ASKED: Final = "tiercache"
"""The execution option of a statement whose result may be cached."""

WRITTEN: Final = "tiercache_writes"
"""The execution option of text that writes: the tables."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a statement asks of the cache."""

    ttl: float | str | timedelta | None
    tags: tuple[str, ...]
    tables: tuple[str, ...]


def cached(
    *, ttl: float | str | timedelta | None = None, tags: Iterable[str] = (), tables: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the execution options by which a query asks for the cache.

    *ttl* is how long its result is fresh; None: as long as the `QueryCache` or the route says. *tags* are
    further tags to invalidate it by. *tables* are those that it reads beside the ones that SQLAlchemy knows
    of: what is behind a view, or in text.

    Raises TypeError where *tags* or *tables* is one str.
    """
    return {ASKED: Asked(ttl, _several("tags", tags), _several("tables", tables))}


def writes(*tables: str) -> dict[str, Any]:
    """Return the execution options by which text tells which *tables* it writes; none if it only reads.

    Text that does not tell counts as writing all tables, unless it begins as what only reads does.
    """
    return {WRITTEN: tables}


def _several(name: str, given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise TypeError(f"{name} must be a collection of str; for one write ({given!r},)")
    return tuple(given)
