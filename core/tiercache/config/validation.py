"""One table against its model: what is right, and a message for each option that is not."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tiercache.config.layers import dotted
from tiercache.config.locate import KeyPath
from tiercache.config.report import Finding
from tiercache.config.secrecy import Secrecy
from tiercache.config.settings import Settings
from tiercache.config.tables import options
from tiercache.config.wording import explain

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Validated(Generic[Model]):
    """What came of one table."""

    model: Model | None
    """Without what is wrong, so that the rest can still be looked at; None where there is no table."""
    findings: tuple[Finding, ...] = ()
    """What is wrong, with the key that it is about."""

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def validate(
    model: type[Model], table: object, path: KeyPath, settings: Settings, secrecy: Secrecy
) -> Validated[Model]:
    """Return what *table*, which stands at *path*, is as *model*."""
    if not isinstance(table, Mapping):
        return Validated(None, ((path, f"is no table; [{dotted(path)}] is accepted"),))
    known = options(model)
    values = {
        name: _from_text(value, known[name])
        if isinstance(value, str) and name in known and settings.textual((*path, name))
        else value
        for name, value in table.items()
    }
    try:
        return Validated(model.model_validate(values))
    except ValidationError as error:
        # Told outside, so that no problem carries the values of the whole table along as its context.
        errors = error.errors(include_url=False)
    messages: dict[KeyPath, list[str]] = {}
    for item in errors:
        place = _place(item["loc"], values)
        show = secrecy.may_show((*path, *place), item["input"])
        names = tuple(known) if len(place) == 1 else ()
        field = known.get(str(place[0])) if len(place) == 1 else None
        text = explain(item, names, show=show)
        if item["type"] == "missing" and field is not None and field.description:
            text += f": {_clause(field.description)}"
        messages.setdefault(place, []).append(text)
    wrong = {place[0] for place in messages if place}
    rest: dict[str, Any] = {name: value for name, value in values.items() if name not in wrong}
    findings = tuple(
        ((*path, *place), "; or ".join(dict.fromkeys(texts))) for place, texts in messages.items()
    )
    return Validated(model.model_construct(None, **rest), findings)


def _clause(sentence: str) -> str:
    """Return *sentence* as part of another; a first word in capitals is left alone."""
    head = sentence[:1].lower() if sentence[1:2].islower() else sentence[:1]
    return head + sentence[1:].rstrip(".")


def _from_text(value: str, field: FieldInfo) -> object:
    """Return *value* taken apart, where the environment has text for an option that is a list or a table."""
    shape = _shape(field.annotation)
    if shape is None:
        return value
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = None
    if isinstance(parsed, shape):
        return parsed
    return [part for item in value.split(",") if (part := item.strip())] if shape is list else value


def _shape(annotation: Any) -> type[list[Any] | dict[str, Any]] | None:
    """Return what an option of this annotation is in JSON, where it is a list or a table."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _shape(typing.get_args(annotation)[0])
    if origin in {typing.Union, types.UnionType}:
        parts = [part for part in typing.get_args(annotation) if part is not type(None)]
        shapes = [_shape(part) for part in parts]
        return None if None in shapes else shapes[0]
    base = origin or annotation
    if not isinstance(base, type):
        return None
    if issubclass(base, (list, tuple, set, frozenset)) or base is Sequence:
        return list
    return dict if issubclass(base, (dict, BaseModel, Mapping)) else None


def _place(loc: Sequence[str | int], values: object) -> KeyPath:
    """Return *loc* less the names of union members that validation puts in between."""
    path: list[str | int] = []
    node: Any = values
    for depth, part in enumerate(loc):
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            # The missing or unknown option itself.
            if depth == len(loc) - 1 and isinstance(node, Mapping):
                path.append(part)
            continue
        path.append(part)
    return tuple(path)
