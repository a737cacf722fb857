"""One writer of a session at a time, among all processes that share its authority.

The turn is an entry that only one can add. It ends by itself where its holder dies, after `LIFE`; so a holder
has `WORK` for all that it does, counted from before the turn was asked for, and what took longer counts as
failed: somebody else may have been at it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Final

from tiercache import Cache, TierUnavailable

LIFE: Final = 30.0
"""Seconds after which the turn of a holder that died ends."""
WORK: Final = LIFE / 2
"""Seconds that a holder has."""
WAIT: Final = 2 * LIFE
"""Seconds after which those who want the turn give up."""


@contextlib.asynccontextmanager
async def turn(cache: Cache, key: str, route: str | None) -> AsyncIterator[None]:
    """Hold the turn that stands under *key*.

    Raises TierUnavailable where the authority of *route* can't be asked, where the turn can't be had, and at
    the end where holding it took longer than `WORK`: then what was done may be undone by another.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + WAIT
    while True:
        began = loop.time()
        if await _added(cache, key, route):
            break
        if began >= until:
            raise TierUnavailable(f"another change of the same session did not end within {WAIT:g} s")
        await asyncio.sleep(random.uniform(0.002, 0.02))  # noqa: S311 - to spread those who wait
    try:
        yield
    finally:
        in_time = loop.time() - began < WORK
        if in_time:
            await _given_back(cache, key)
    if not in_time:
        raise TierUnavailable(
            f"changing a session took longer than {WORK:g} s; it may have been changed or not"
        )


async def _added(cache: Cache, key: str, route: str | None) -> bool:
    """Return whether the turn was had. Who is cancelled leaves no turn that others wait for."""
    asking = asyncio.ensure_future(cache.add(key, 1, ttl=LIFE, route=route))
    try:
        return await asyncio.shield(asking)
    except asyncio.CancelledError:
        with contextlib.suppress(TierUnavailable):
            if await asking:
                await _given_back(cache, key)
        raise


async def _given_back(cache: Cache, key: str) -> None:
    """End the turn, also where the caller is cancelled meanwhile."""
    dropping = asyncio.ensure_future(cache.delete(key))
    try:
        await asyncio.shield(dropping)
    except asyncio.CancelledError:
        await asyncio.wait([dropping])
        raise
