"""A source of values for patterns, that tests can break; documents name its functions."""

from __future__ import annotations

import asyncio
from typing import Any

from tiercache import MISSING

ROWS: dict[str, Any] = {}
LOADS: list[str] = []
WRITES: list[tuple[str, Any]] = []
BROKEN: list[Exception] = []
"""Errors to come, one a call."""
GATES: list[asyncio.Event] = []
"""What the next calls wait for before they write."""


def reset() -> None:
    for each in (ROWS, LOADS, WRITES, BROKEN, GATES):
        each.clear()


async def load(key):
    LOADS.append(key)
    if BROKEN:
        raise BROKEN.pop(0)
    return ROWS.get(key, MISSING)


def load_slowly(key):
    LOADS.append(key)
    return ROWS.get(key, MISSING)


async def save(key, value):
    if GATES:
        await GATES.pop(0).wait()
    if BROKEN:
        raise BROKEN.pop(0)
    WRITES.append((key, value))
    ROWS[key] = value


def save_slowly(key, value):
    if BROKEN:
        raise BROKEN.pop(0)
    WRITES.append((key, value))
    ROWS[key] = value


async def remove(key):
    WRITES.append((key, MISSING))
    ROWS.pop(key, None)


async def save_many(writes):
    if BROKEN:
        raise BROKEN.pop(0)
    for write in writes:
        WRITES.append((write.key, write.value))
        ROWS[write.key] = write.value


async def neighbours(key):
    LOADS.append(f"near {key}")
    if BROKEN:
        raise BROKEN.pop(0)
    return {"user:124": "Jane", "user:125": "Bob"}
