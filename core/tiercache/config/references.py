"""Which options of a stage name other stages."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from tiercache.config.locate import KeyPath
from tiercache.contracts import Kind, StageRef


class Reference(NamedTuple):
    """One option that names a stage."""

    kind: Kind
    name: str
    path: KeyPath
    """Of the option."""


def references(config: BaseModel, path: KeyPath) -> list[Reference]:
    """Return what *config* refers to, with the option that does."""
    out: list[Reference] = []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name, None)
        at = (*path, field.alias or name)
        marks = [mark for mark in field.metadata if isinstance(mark, StageRef)]
        if marks and isinstance(value, str):
            out.append(Reference(marks[0].kind, value, at))
        else:
            out += _within(field.annotation, value, at)
    return out


def _within(annotation: Any, value: Any, path: KeyPath) -> list[Reference]:
    if isinstance(value, BaseModel):
        return references(value, path)
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated and isinstance(value, str):
        return [Reference(mark.kind, value, path) for mark in arguments[1:] if isinstance(mark, StageRef)]
    out: list[Reference] = []
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            for part in dict.fromkeys(arguments):
                out += _within(part, item, (*path, index))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            out += _within(arguments[-1] if arguments else None, item, (*path, str(key)))
    elif isinstance(value, str):
        for part in arguments:
            out += _within(part, value, path)
    return out
