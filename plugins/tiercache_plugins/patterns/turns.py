"""One at a time, by key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Lets those who write one key go one after the other, in the order in which they came."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def of(self, key: str) -> AsyncIterator[None]:
        """Wait for the turn at *key*, and hold it."""
        lock, waiting = self._held.get(key, (asyncio.Lock(), 0))
        self._held[key] = lock, waiting + 1
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._held[key]
            if waiting == 1:
                del self._held[key]
            else:
                self._held[key] = lock, waiting - 1
