"""One writer of a session at a time, among all processes that share its authority."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from tiercache import Cache, TierUnavailable

LIFE: Final = 30.0
"""Seconds for which the others wait where the holder of the turn dies."""
WAIT: Final = 2 * LIFE
"""Seconds after which those who want the turn give up."""


@contextlib.asynccontextmanager
async def turn(cache: Cache, key: str, route: str | None) -> AsyncIterator[None]:
    """Hold the lock *key*.

    Raises LockTimeout where it can't be had, TierUnavailable where the authority of *route* can't be asked,
    and at the end where the lock was lost meanwhile: then what was done may be undone by another.
    """
    async with cache.lock(key, ttl=LIFE, wait=WAIT, route=route) as lock:
        yield
        if lock.lost:
            raise TierUnavailable("the lock of a session was lost; it may have been changed or not")
