"""What must not be guessed: the calls that one tier answers, whatever the others hold."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from tiercache.cache.loading import Loading
from tiercache.engine import authority
from tiercache.engine.locks.lock import Lock
from tiercache.units import seconds


class Deciding(Loading):
    """The part of `Cache` whose answers come from the route's authority alone."""

    __slots__ = ()

    async def add(
        self,
        key: str,
        value: Any,
        *,
        route: str | None = None,
        ttl: float | str | timedelta | None = None,
        stale: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
    ) -> bool:
        """Store *value* only where nothing fresh stands; return whether it was stored.

        The route's authority answers: its shared tier, else its disk tier, else the near one. Raises
        TierUnavailable where it can't be reached, Unsupported where it can't compare and set.
        """
        way = self._way(key, route)
        return await authority.add(way, key, value, self._life(way, ttl, stale, tags))

    async def touch(self, key: str, *, ttl: float | str | timedelta, route: str | None = None) -> bool:
        """Let the entry of *key* be fresh for *ttl* from now; return whether there is one.

        Raises as `add` does.
        """
        return await authority.touch(self._way(key, route), key, seconds(ttl))

    async def increment(
        self,
        key: str,
        delta: int = 1,
        *,
        route: str | None = None,
        ttl: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
    ) -> int:
        """Add *delta* to the integer under *key* and return the sum; a new one starts from *delta*.

        A counter that stands keeps its TTL. Raises TypeError where something else stands, OverflowError
        where the sum leaves 64 bits, else as `add`.
        """
        way = self._way(key, route)
        return await authority.increment(way, key, delta, self._life(way, ttl, None, tags))

    def lock(
        self,
        name: str,
        *,
        ttl: float | str | timedelta = 10.0,
        wait: float | str | timedelta | None = None,
        route: str | None = None,
    ) -> Lock:
        """Return the lock *name*, to be held by one at a time of all who share the route's authority.

        Use it as `async with cache.lock("import"):`. The route is that of a key of this name; its shared tier
        answers, else its disk tier (then for this host), else the near one (then for this process). *ttl* is
        how long the others wait where the holder dies; a living holder prolongs it by itself. *wait* is how
        long to wait for the lock: None for as long as it takes, 0 not at all.

        Entering it raises LockTimeout where *wait* is over, LockError where this task holds it already,
        TierUnavailable where the tier can't be reached. Raises Unsupported where the tier can't lend locks.
        """
        return self._lending.lock(self._way(name, route), name, ttl, wait)
