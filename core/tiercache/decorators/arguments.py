"""Arguments as text: equal arguments of equal types, and only they, give equal text."""

from __future__ import annotations

import dataclasses
import datetime as dt
import zoneinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final
from uuid import UUID

ACCEPTED: Final = (
    "None, bool, int, float, str, bytes, Decimal, Fraction, UUID, dates, times, paths, enums, dataclasses, "
    "and tuples, lists, sets and dicts of these"
)

# Types whose repr tells all that they hold, and can't be that of another type.
_TOLD: Final = frozenset({
    type(None), bool, float, complex, str, bytes, Decimal, Fraction, UUID, range, dt.date,
    dt.timedelta, PurePosixPath, PureWindowsPath, PosixPath, WindowsPath,
})  # fmt: skip
_LONG: Final = 2**512


def text(value: Any) -> str:
    """Return *value* as text. Raises TypeError with the type that it can't tell."""
    kind = type(value)
    if kind is int:
        # Python refuses to write very long ones in decimal.
        return repr(value) if -_LONG < value < _LONG else hex(value)
    if kind in _TOLD:
        return repr(value)
    if kind is tuple:
        return f"({''.join([f'{text(item)},' for item in value])})"
    if kind is list:
        return f"[{','.join([text(item) for item in value])}]"
    if kind is dict:
        return f"{{{','.join(sorted([f'{text(key)}:{text(item)}' for key, item in value.items()]))}}}"
    if kind is set or kind is frozenset:
        return f"{kind.__name__}({','.join(sorted([text(item) for item in value]))})"
    if kind is dt.datetime or kind is dt.time:
        fold = "~" * value.fold
        return f"{kind.__name__}({value.isoformat()}{fold}{_zone(value.tzinfo)})"
    return _of_a_class(value)


def _of_a_class(value: Any) -> str:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, Enum):
        return f"{name}.{value.name!r}" if value.name is not None else f"{name}({text(value.value)})"
    if dataclasses.is_dataclass(kind):
        held = [text(getattr(value, field.name)) for field in dataclasses.fields(kind)]
        return f"{name}({','.join(held)})"
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return f"{name}({','.join([text(item) for item in value])})"
    raise TypeError(name)


def _zone(zone: dt.tzinfo | None) -> str:
    if zone is None:
        return ""
    if isinstance(zone, zoneinfo.ZoneInfo) and zone.key:
        return f" {zone.key}"
    if isinstance(zone, dt.timezone):
        return f" {zone!r}"
    raise TypeError(f"{type(zone).__module__}.{type(zone).__qualname__}")
