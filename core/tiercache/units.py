"""Durations and sizes as people write them: "250ms", "1h30m", "1GiB"."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema

SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
BYTES: Final = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip

DURATION_PATTERN: Final = r"^(never|\d+(\.\d+)?|(\d+(\.\d+)?\s*(us|ms|s|m|h|d|w)\s*)+)$"
SIZE_PATTERN: Final = r"^\d[\d_]*(\.\d+)?\s*([kKmMgGtT][iI]?)?[bB]?$"

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d|w)\s*")
_SIZE = re.compile(r"(\d[\d_]*(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_DURATION_HINT = 'a duration such as "250ms", "30s", "1h30m" or "never" is accepted'
_SIZE_HINT = 'a size such as 65536, "64KiB" or "1GiB" is accepted'


def seconds(value: float | str | timedelta) -> float:
    """Return *value* in seconds; `math.inf` for "never".

    Numbers are seconds. Raises ValueError for what is no duration, and for zero and less: a life of
    nothing is always a mistake.
    """
    if isinstance(value, bool):
        raise ValueError(f"{value} is no duration; {_DURATION_HINT}")
    if isinstance(value, timedelta):
        result = value.total_seconds()
    elif isinstance(value, (int, float)):
        result = float(value)
    elif isinstance(value, str):
        result = _parse_seconds(value)
    else:
        raise ValueError(f"{type(value).__name__} is no duration; {_DURATION_HINT}")
    if not result > 0:
        raise ValueError(f"a duration must be more than zero; {_DURATION_HINT}")
    return result


def _parse_seconds(text: str) -> float:
    stripped = text.strip()
    if stripped == "never":
        return math.inf
    if _NUMBER.fullmatch(stripped):
        return float(stripped)
    total, end = 0.0, 0
    while match := _DURATION_PART.match(stripped, end):
        total += float(match[1]) * SECONDS[match[2]]
        end = match.end()
    if not stripped or end != len(stripped):
        raise ValueError(f'"{text}" is no duration; {_DURATION_HINT}')
    return total


def size(value: int | str) -> int:
    """Return *value* in bytes. Raises ValueError for what is no size, and for zero and less."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"{value!r} is no size; {_SIZE_HINT}")
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        unit = (match[2].lower() or "b") if match else ""
        factor = BYTES.get(unit) or BYTES.get(f"{unit}b")
        if match is None or factor is None:
            raise ValueError(f'"{value}" is no size; {_SIZE_HINT}')
        value = int(float(match[1].replace("_", "")) * factor)
    if value < 1:
        raise ValueError(f"a size must be at least one byte; {_SIZE_HINT}")
    return value


Duration = Annotated[
    float,
    BeforeValidator(seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": DURATION_PATTERN},
                {"type": "number", "exclusiveMinimum": 0},
            ]
        }
    ),
]
"""An option in seconds that reads well in TOML: "250ms", "1h30m", "never"."""

Size = Annotated[
    int,
    BeforeValidator(size),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": SIZE_PATTERN}, {"type": "integer", "minimum": 1}]}
    ),
]
"""An option in bytes that reads well in TOML: 65536, "64KiB", "1GiB"."""


def _decimal(number: float) -> str:
    # Never an exponent: what is written here must be read again by `seconds`.
    return f"{number:.6f}".rstrip("0").rstrip(".")


def format_seconds(value: float) -> str:
    """Return a duration in the largest unit that divides it: 5400.0 → "90m"."""
    if math.isinf(value):
        return "never"
    for unit in ("w", "d", "h", "m", "s"):
        if value >= SECONDS[unit] and value % SECONDS[unit] == 0:
            return f"{_decimal(value / SECONDS[unit])}{unit}"
    return f"{_decimal(value * 1000)}ms" if value >= 0.001 else f"{_decimal(value * 1e6)}us"


def format_size(value: int) -> str:
    """Return a size in the largest binary unit that it reaches: 1536 → "1.5KiB"."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if value >= BYTES[unit.lower()]:
            return f"{value / BYTES[unit.lower()]:.4g}{unit}"
    return f"{value}B"
