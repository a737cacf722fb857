"""About how many bytes a value keeps in memory."""

from __future__ import annotations

import sys
from collections import deque
from itertools import islice
from typing import Any, Final

SAMPLE: Final = 32
"""Elements of a container that are looked at; they stand for the rest."""
LIMIT: Final = 256
"""Objects that are looked at in all."""
UNKNOWN: Final = 64
"""Bytes for an object that doesn't tell."""
_GROUPS: Final = (list, tuple, set, frozenset, deque)


def weigh(key: str, value: Any) -> int:
    """Return the approximate size of *key* and *value* in bytes.

    Containers and the attributes of objects are walked; of a large container a sample stands for the whole,
    and the walk ends after a few hundred objects, so a weight takes some ten microseconds whatever the
    value. What is reached twice counts once. Memory that an extension allocates aside counts only where
    its `__sizeof__` tells.
    """
    total = float(sys.getsizeof(key, UNKNOWN))
    met: set[int] = set()
    waiting: list[tuple[Any, float]] = [(value, 1.0)]
    while waiting and len(met) < LIMIT:
        item, share = waiting.pop()
        if id(item) in met:
            continue
        met.add(id(item))
        size, parts, count = _look(item)
        total += share * size
        if parts:
            share *= count / len(parts)
            waiting += [(part, share) for part in parts]
    if waiting:
        # The rest is taken to be like what was seen.
        total += total / LIMIT * sum([share for _, share in waiting])
    return int(total)


def _look(item: Any) -> tuple[int, list[Any], int]:
    """Return the size of *item* by itself, a sample of its parts, and how many parts there are."""
    try:
        size = sys.getsizeof(item, UNKNOWN)
        if isinstance(item, dict):
            pairs = list(islice(item.items(), SAMPLE // 2))
            return size, [part for pair in pairs for part in pair], 2 * len(item)
        if isinstance(item, _GROUPS):
            return size, list(islice(item, SAMPLE)), len(item)
        if isinstance(item, type):
            return size, [], 0
        parts = [getattr(item, name) for name in _slots(type(item)) if hasattr(item, name)]
        if (attributes := getattr(item, "__dict__", None)) is not None:
            parts.append(attributes)
        return size, parts, len(parts)
    except Exception:  # noqa: BLE001 - an object that fails when looked at must not fail the write
        return UNKNOWN, [], 0


def _slots(cls: type) -> list[str]:
    names: list[str] = []
    for ancestor in cls.__mro__:
        slots = ancestor.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else [name for name in slots if isinstance(name, str)]
    return [name for name in names if name not in {"__dict__", "__weakref__"}]
