"""Keys of statements: equal text of SQL, options, parameters and database, and only they, give one key."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Column, Table
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.interfaces import MapperProperty
from sqlalchemy.sql.operators import custom_op

from tiercache_plugins.integrations.sqlalchemy.tables import Touched, touched

_MOST: Final = 1_000
"""Statements whose text is remembered."""

_TOLD: Final = frozenset(
    {type(None), bool, int, float, str, bytes, Decimal, UUID, dt.date, dt.datetime, dt.time, dt.timedelta}
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of a statement whatever its parameters are."""

    text: bytes
    """What tells it from others, as a digest."""
    touched: Touched


class Keys:
    """Makes keys, and remembers the plans of statements."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._plans: dict[Any, Plan] = {}

    def key(
        self, statement: Any, parameters: Any, dialect: Any, database: str, more: tuple[Any, ...]
    ) -> tuple[str, Plan]:
        """Return the key of *statement* with *parameters* in *database*, and what is known of it.

        Raises TypeError for what can't be told exactly.
        """
        made = statement._generate_cache_key()  # noqa: SLF001 - SQLAlchemy's own examples of caching ask this
        if made is None:
            raise TypeError(
                f"this {type(statement).__name__} can't be cached: a part of it has no cache key; give the "
                "class `inherit_cache = True`, or ask without `cached`"
            )
        plan = self._plan(statement, made.key, dialect)
        values = []
        for bound in made.bindparams:
            if bound.callable is not None:
                raise TypeError(
                    f"this {type(statement).__name__} can't be cached: the parameter {bound.key!r} is a "
                    "function, as in comparisons with an object; compare with the value of a column"
                )
            values.append((None if bound.unique else bound.key, bound.value))
        told = _text((tuple(values), getattr(made, "params", None), parameters, database, more))
        digest = hashlib.blake2b(plan.text + told.encode("utf-8", "surrogatepass"), digest_size=20)
        return f"{self._prefix}query:{digest.hexdigest()}", plan

    def _plan(self, statement: Any, known: Any, dialect: Any) -> Plan:
        place = (known, dialect.name, dialect.driver)
        plan = self._plans.get(place)
        if plan is None:
            compiled = statement.compile(dialect=dialect)
            state = getattr(compiled, "compile_state", None)
            whole = f"{compiled}\0{_part(known)}"
            plan = Plan(
                hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=20).digest(),
                touched(compiled.statement, getattr(state, "statement", None)),
            )
            if len(self._plans) >= _MOST:
                self._plans = {}
            self._plans[place] = plan
        return plan


def _text(value: Any) -> str:
    """Return *value*, a parameter, as text that no other value of any type has. Raises TypeError."""
    kind = type(value)
    if kind in _TOLD:
        zone = getattr(value, "tzinfo", None)
        return f"{kind.__name__}:{value!r}{'' if zone is None else zone}"
    if kind is tuple or kind is list:
        return f"{kind.__name__}[{','.join([_text(item) for item in value])}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(sorted(f'{_text(key)}={_text(item)}' for key, item in value.items()))}}}"
    if isinstance(value, Enum):
        return f"{_name(kind)}.{value.name}"
    raise TypeError(
        f"a query with a parameter of {_name(kind)} can't be cached; None, bool, int, float, str, bytes, "
        "Decimal, UUID, dates, times, enums, and lists, tuples and dicts of these are accepted"
    )


def _part(part: Any) -> str:
    """Return *part* of a cache key of SQLAlchemy as text that other processes make of it as well."""
    if isinstance(part, tuple | list):
        return f"({','.join([_part(item) for item in part])})"
    if isinstance(part, Mapping):
        return f"{{{','.join([f'{_part(key)}:{_part(item)}' for key, item in part.items()])}}}"
    if isinstance(part, frozenset | set):
        return f"<{','.join(sorted([_part(item) for item in part]))}>"
    if isinstance(part, Enum):
        return f"{_name(type(part))}.{part.name}"
    if type(part) in _TOLD or isinstance(part, str):
        return f"{type(part).__name__}:{part!r}"
    if isinstance(part, type):
        return _name(part)
    return _thing(part)


def _thing(part: Any) -> str:
    if isinstance(part, Mapper):
        return f"mapper {_name(part.class_)}"
    if isinstance(part, MapperProperty):
        return f"property {_name(part.parent.class_)}.{part.key}"
    if isinstance(part, Table):
        return f"table {part.fullname}"
    if isinstance(part, Column):
        return f"column {getattr(part.table, 'fullname', '')}.{part.key}"
    if isinstance(part, custom_op):
        return f"operator {part.opstring} {part.precedence} {part.is_comparison}"
    if isinstance(part, FunctionType | BuiltinFunctionType) and "<" not in part.__qualname__:
        return f"function {_name(part)}"
    raise TypeError(
        f"this query can't be cached: it holds a {_name(type(part))}, which other processes could not tell "
        "from others; ask without `cached`"
    )


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
