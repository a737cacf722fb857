"""Results as plain values, and back into a session.

Entities are kept as what was loaded of them: columns, and the relationships that the query loaded along. They
come back as persistent objects of the session that asks, each identity once, never shared with others.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy import inspect as inspected
from sqlalchemy.engine import IteratorResult, Result
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.orm import InstanceState, Mapper, Session, make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.collections import collection_adapter

_FIXED: Final = frozenset({
    type(None), bool, int, float, complex, str, bytes, Decimal, UUID,
    dt.date, dt.datetime, dt.time, dt.timedelta,
})  # fmt: skip


class Unusable(Exception):
    """What is stored is not what this version of the application stores."""


def frozen(keys: Iterable[str], rows: Iterable[Any]) -> dict[str, Any]:
    """Return *rows* as plain values. Raises TypeError for a result that holds what can't be kept."""
    pool = _Pool()
    columns = list(keys)
    entities: set[int] = set()
    kept = []
    for row in rows:
        cells = []
        for place, cell in enumerate(row):
            state = _state(cell)
            if state is not None:
                entities.add(place)
                cells.append(pool.number(state))
            elif isinstance(cell, Row):
                raise TypeError("a bundle can't be cached; select its columns one by one")
            else:
                cells.append(_own(cell))
        kept.append(cells)
    return {"keys": columns, "entities": sorted(entities), "rows": kept, "objects": pool.drawn()}


class _Pool:
    """The objects of a result, each once."""

    def __init__(self) -> None:
        self._numbers: dict[InstanceState[Any], int] = {}
        self._waiting: list[InstanceState[Any]] = []

    def number(self, state: InstanceState[Any]) -> int:
        if state not in self._numbers:
            self._numbers[state] = len(self._numbers)
            self._waiting.append(state)
        return self._numbers[state]

    def drawn(self) -> list[list[Any]]:
        """Return all objects, in the order of their numbers; what they lead to is numbered meanwhile."""
        drawn: list[list[Any]] = []
        while len(drawn) < len(self._waiting):
            state = self._waiting[len(drawn)]
            held = state.dict
            mapper = state.mapper
            columns = {each.key: _own(held[each.key]) for each in mapper.column_attrs if each.key in held}
            others: dict[str, Any] = {}
            for each in mapper.relationships:
                if each.key in held:
                    others[each.key] = self._related(held[each.key], many=bool(each.uselist))
            drawn.append([_name(mapper), columns, others])
        return drawn

    def _related(self, value: Any, *, many: bool) -> Any:
        if many:
            adapter = collection_adapter(value)
            return [self.number(inspected(member)) for member in (adapter or ())]
        return None if value is None else self.number(inspected(value))


def thawed(value: Any, session: Session, mappers: Iterable[Mapper[Any]], extra: list[Any]) -> Result[Any]:
    """Return the result that *value* was made of, its entities in *session*.

    What *session* has loaded by now stays as it is, as with any query. *extra* are the expressions that
    stand for the columns of its rows. Raises Unusable where *value* is no such result.
    """
    try:
        keys, rows, entities = value["keys"], value["rows"], frozenset(value["entities"])
        objects = _revived(value["objects"], session, _named(mappers)) if value["objects"] else []
        made = [
            tuple([
                objects[cell] if place in entities and cell is not None else _own(cell)
                for place, cell in enumerate(row)
            ])
            for row in rows
        ]  # fmt: skip
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise Unusable from error
    names = [(each,) for each in extra] if len(extra) == len(keys) else None
    return IteratorResult(SimpleResultMetaData(keys, extra=names), iter(made))


def _revived(objects: list[list[Any]], session: Session, mappers: Mapping[str, Mapper[Any]]) -> list[Any]:
    revived: list[Any] = []
    fresh: list[bool] = []
    for name, columns, _ in objects:
        mapper = mappers[name]
        known = {each.key for each in mapper.column_attrs}
        if not columns.keys() <= known:
            raise KeyError(name)
        primary = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
        identity = mapper.identity_key_from_primary_key(tuple(columns[key] for key in primary))
        found = session.identity_map.get(identity)
        if found is None:
            found = mapper.class_manager.new_instance()
            for key, each in columns.items():
                set_committed_value(found, key, _own(each))
            make_transient_to_detached(found)
            session.add(found)
            fresh.append(True)
        else:
            _fill(found, columns)
            fresh.append(False)
        revived.append(found)
    for instance, (_, _, related) in zip(revived, objects, strict=True):
        state = inspected(instance)
        for key, members in related.items():
            if key not in state.mapper.relationships:
                raise KeyError(key)
            if key not in state.dict:
                set_committed_value(instance, key, _members(members, revived))
    for instance, new in zip(revived, fresh, strict=True):
        if new:
            state = inspected(instance)
            state.manager.dispatch.load(state, None)
    return revived


def _fill(instance: Any, columns: Mapping[str, Any]) -> None:
    held = inspected(instance).dict
    for key, value in columns.items():
        if key not in held:
            set_committed_value(instance, key, _own(value))


def _members(numbers: Any, revived: list[Any]) -> Any:
    if numbers is None:
        return None
    return [revived[number] for number in numbers] if isinstance(numbers, list) else revived[numbers]


def _named(mappers: Iterable[Mapper[Any]]) -> dict[str, Mapper[Any]]:
    registries = {mapper.registry for mapper in mappers}
    return {_name(mapper): mapper for registry in registries for mapper in registry.mappers}


def _name(mapper: Mapper[Any]) -> str:
    return f"{mapper.class_.__module__}.{mapper.class_.__qualname__}"


def _state(cell: Any) -> InstanceState[Any] | None:
    if type(cell) in _FIXED:
        return None
    state = getattr(cell, "_sa_instance_state", None)
    return state if isinstance(state, InstanceState) else None


def _own(value: Any) -> Any:
    """Return *value*, or a copy where somebody could change it in place."""
    return value if type(value) in _FIXED else copy.deepcopy(value)
