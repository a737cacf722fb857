"""Keys and tags as people write them: "user:{user_id}", checked when a function is decorated."""

from __future__ import annotations

import datetime as dt
import string
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

_SAMPLES: Final[Mapping[Any, Any]] = {
    int: 0, float: 0.0, str: "", Decimal: Decimal(0), UUID: UUID(int=0),
    dt.date: dt.date(2000, 1, 1), dt.datetime: dt.datetime(2000, 1, 1, tzinfo=None),  # noqa: DTZ001
}  # fmt: skip
_FORMATTER: Final = string.Formatter()


class Template:
    """A key or tag with fields, such as "user:{user_id}" or "{self.tenant}:{when:%Y-%m}".

    Where it has several fields, what the arguments hold of the text between them is percent-encoded, so
    that ("a:b", "c") and ("a", "b:c") never share "{x}:{y}". An argument counts by its text alone: 7 and
    "7" are one. Raises ValueError for a template that can never work.
    """

    __slots__ = ("_after", "_apart", "_fields", "_source", "names")

    def __init__(self, source: str, parameters: Mapping[str, Any]) -> None:
        """*parameters* are the names that may be used, with their annotations."""
        self._source = source
        self._fields: list[tuple[str, str, str, str | None]] = []
        self._after = ""
        try:
            parts = list(_FORMATTER.parse(source))
        except ValueError as error:
            raise ValueError(f'the template "{source}" can\'t be read: {error}') from None
        for literal, field, spec, conversion in parts:
            if field is None:
                self._after += literal
                continue
            self._check(field, spec or "", conversion, parameters)
            self._fields.append((self._after + literal, field, spec or "", conversion))
            self._after = ""
        between = [literal for literal, *_ in self._fields[1:]]
        if "" in between:
            raise ValueError(
                f'the template "{source}" has two fields with nothing between them, so that different '
                'arguments would share a key; write something such as ":" there'
            )
        self._apart = {char: _encoded(char) for char in "".join(between)}
        if self._apart:
            self._apart["%"] = "%25"
        self.names = frozenset(_root(field) for _, field, _, _ in self._fields)
        """The parameters that it uses."""

    def __call__(self, arguments: Mapping[str, Any]) -> str:
        """Return the text for *arguments*. Raises TypeError for one that has no text of its own."""
        out: list[str] = []
        for literal, field, spec, conversion in self._fields:
            value, _ = _FORMATTER.get_field(field, (), arguments)
            if conversion is not None:
                value = _FORMATTER.convert_field(value, conversion)
            elif not _tells(type(value)):
                raise TypeError(
                    f'the template "{self._source}" has no text for {field}, which is a '
                    f"{type(value).__qualname__}; str, int, UUID, enums, dates and all that define __str__ "
                    'or __format__ are accepted, and "!r" takes the repr'
                )
            held = format(value, spec)
            if self._apart:
                held = "".join([self._apart.get(char, char) for char in held])
            out += (literal, held)
        return "".join(out) + self._after

    def _check(self, field: str, spec: str, conversion: str | None, parameters: Mapping[str, Any]) -> None:
        name = _root(field)
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            raise ValueError(
                f'the template "{self._source}" names {name or "a field without a name"!r}, which is no '
                f"parameter; there are: {known}"
            )
        if "{" in spec:
            raise ValueError(f'the template "{self._source}" has a field within a field, which is not taken')
        if conversion not in {None, "r", "s", "a"}:
            raise ValueError(
                f'the template "{self._source}" has the conversion "!{conversion}"; !r, !s and !a '
                "are accepted"
            )
        if spec and not any(
            _takes(sample, spec) for sample in _samples(field, conversion, parameters[name], spec)
        ):
            raise ValueError(
                f'the template "{self._source}" has the format ":{spec}", which {name} can\'t take; see '
                "Python's format specification"
            )


def _root(field: str) -> str:
    return field.split(".", 1)[0].split("[", 1)[0]


def _samples(field: str, conversion: str | None, annotation: Any, spec: str) -> Sequence[Any]:
    if conversion is not None:
        return ("",)
    if field == _root(field):
        named = {kind.__name__: sample for kind, sample in _SAMPLES.items()} | dict(_SAMPLES)
        if isinstance(annotation, (str, type)) and annotation in named:
            return (named[annotation],)
    if "%" in spec:
        return tuple(_SAMPLES.values())
    # What formats itself by any text would take every mistake.
    return (0, 0.0, "")


def _takes(sample: Any, spec: str) -> bool:
    try:
        format(sample, spec)
    except (ValueError, TypeError):
        return False
    return True


def _tells(kind: type) -> bool:
    if kind is bytes or kind is bytearray:
        return False
    plain: tuple[Callable[..., Any], ...] = (object.__str__, object.__format__)
    return kind is type(None) or kind is bool or (
        kind.__str__ is not plain[0] or kind.__format__ is not plain[1]
    )  # fmt: skip


def _encoded(char: str) -> str:
    quoted = quote(char, safe="")
    return quoted if quoted != char else f"%{ord(char):02X}"
