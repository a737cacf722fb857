"""The source first, then the cache: what holds whichever of the two fails, and when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

log = logging.getLogger("tiercache.patterns")


async def through(
    write: Callable[[], Awaitable[Any]],
    store: Callable[[], Awaitable[Any]],
    drop: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Change the source by *write*, then the cache by *store*.

    Where the source says no, its error is raised and the cache stays as it was. Where nobody can know what
    the source has by now (cancelled in the middle), or the cache could not be changed, the key is dropped by
    *drop*, also if the caller does not wait for that; the error is raised all the same.
    """
    try:
        await write()
    except Exception:
        raise
    except BaseException:
        await _certainly(drop)
        raise
    try:
        await store()
    except BaseException:
        await _certainly(drop)
        raise


async def _certainly(drop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Drop the key, whoever is cancelled meanwhile."""
    try:
        # The loop holds tasks weakly; the cache's writes, on which this one waits at once, it holds strongly.
        await asyncio.shield(asyncio.ensure_future(drop()))
    except Exception as error:  # noqa: BLE001 - what made it necessary is what the caller must hear of
        log.warning("a key could not be dropped: %s: %s", type(error).__name__, error)
