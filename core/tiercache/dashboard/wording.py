"""Numbers as texts, short enough for a cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tiercache.units import format_size

UNKNOWN: Final = "\N{EN DASH}"
"""What stands where nothing is known, or nothing was counted."""


def count(value: float) -> str:
    """Return a whole number: 12345 → "12,345"."""
    return f"{value:,.0f}"


def counts(values: Mapping[str, int]) -> str:
    """Return numbers with what they count: {"room": 2} → "room 2"."""
    return ", ".join(f"{name} {count(value)}" for name, value in values.items() if value) or "0"


def size(value: int) -> str:
    """Return bytes: 1536 → "1.5 KiB"."""
    text = format_size(value)
    return f"{text[:-3]} {text[-3:]}" if text.endswith("iB") else f"{text[:-1]} B"


def part(some: float, whole: float) -> str:
    """Return *some* of *whole* in percent; never 100 % where something is missing."""
    if not whole:
        return UNKNOWN
    share = 100 * some / whole
    return f"{min(share, 99.9) if some < whole else share:.1f} %"


def rate(value: float | None) -> str:
    """Return a number of things a second."""
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.3g}"


def millis(seconds: float, times: float) -> float | None:
    """Return the mean of *times* that took *seconds* in all, in milliseconds; None where there was none."""
    return 1000 * seconds / times if times else None


def mean(seconds: float, times: float) -> str:
    """Return the mean of *times* that took *seconds* in all."""
    return lasting(seconds / times) if times else UNKNOWN


def lasting(seconds: float) -> str:
    """Return a duration by three digits: 0.0123 → "12.3 ms"."""
    for unit, factor in (("µs", 1e6), ("ms", 1e3), ("s", 1.0)):
        if seconds * factor < 1000 and (unit == "s" or seconds * factor < 999.5):
            if seconds < 120 or unit != "s":
                return f"{seconds * factor:.3g} {unit}"
            break
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.0f} d"
