"""How problems are put into words: what is wrong, what would be accepted, and what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from pydantic_core import ErrorDetails

_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "int_type": "a whole number",
        "int_parsing": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
        "float_parsing": "a number",
        "finite_number": "a number that is not infinite",
        "bool_type": "true or false",
        "bool_parsing": "true or false",
        "string_type": "a string",
        "bytes_type": "a string",
        "tuple_type": 'a list, such as ["memory"]',
        "list_type": 'a list, such as ["memory"]',
        "set_type": 'a list, such as ["memory"]',
        "frozen_set_type": 'a list, such as ["memory"]',
        "dict_type": "a table",
        "model_type": "a table",
        "model_attributes_type": "a table",
        "path_type": "a path",
    }
)
_LIMITS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "greater_than": ("more than", "gt"),
        "greater_than_equal": ("at least", "ge"),
        "less_than": ("less than", "lt"),
        "less_than_equal": ("at most", "le"),
        "multiple_of": ("a multiple of", "multiple_of"),
    }
)


def closest(name: str, names: Iterable[str], likeness: float = 0.6) -> str:
    """Return '; did you mean "…"?' for the nearest of *names*; empty where none has that *likeness*."""
    found = difflib.get_close_matches(name, sorted(names), n=1, cutoff=likeness)
    return f'; did you mean "{found[0]}"?' if found else ""


def accepted(names: Iterable[str]) -> str:
    """Return what may stand there: "a, b and c are accepted"."""
    *most, last = [*names] or ["nothing"]
    return f"{', '.join(most)} and {last} are accepted" if most else f"{last} is accepted"


def guess(name: str, names: Sequence[str]) -> str:
    """Return the nearest of *names*, or else all of them, as the end of a message."""
    return closest(name, names) or (f"; {accepted(names)}" if names else "")


def explain(error: ErrorDetails, options: Sequence[str], *, show: bool) -> str:
    """Return the message for a validation *error* where *options* are those of its table.

    *show* tells whether the offending value may be part of it.
    """
    kind, context = error["type"], error.get("ctx") or {}
    if kind == "extra_forbidden":
        return f"unknown option{guess(str(error['loc'][-1]), options)}"
    if kind == "missing":
        return "is missing"
    if kind in _TYPES:
        return f"{_value(error['input'], show=show)} is not accepted; {_TYPES[kind]} is"
    if kind in _LIMITS:
        words, key = _LIMITS[kind]
        return f"{_value(error['input'], show=show)} is not accepted; {words} {context[key]} is"
    if kind in {"too_short", "string_too_short"}:
        return f"is too short; at least {context['min_length']} is accepted"
    if kind in {"too_long", "string_too_long"}:
        return f"is too long; at most {context['max_length']} is accepted"
    if kind == "string_pattern_mismatch":
        return (
            f"{_value(error['input'], show=show)} is not accepted; text of the form {context['pattern']} is"
        )
    if kind in {"literal_error", "enum"}:
        expected = str(context["expected"]).replace("'", '"')
        text = f"{_value(error['input'], show=show)} is not accepted; {expected} is"
        return text + closest(str(error["input"]), re.findall(r'"([^"]*)"', expected)) if show else text
    if kind in {"value_error", "assertion_error"}:
        return str(context["error"])
    message = error["msg"]
    return message[:1].lower() + message[1:]


def _value(value: Any, *, show: bool) -> str:
    if not show:
        return "the value"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 80 else f'"{value[:80]}…"'
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "a list"
    return "a table" if isinstance(value, Mapping) else f"{type(value).__name__}"
