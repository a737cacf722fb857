"""Cache: the object that applications hold."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from tiercache.cache.reading import Reading
from tiercache.clock import Clock, Ticker
from tiercache.engine import authority
from tiercache.engine.stats import Stats
from tiercache.units import seconds


class Cache(Reading):
    """A cache as its configuration describes it.

    Open it with `Cache.open()`, then use it as `async with`, or call `start` and `close`. It belongs to the
    event loop that started it. Every method takes the key first; everything after the value is keyword-only.

    A duration is a number of seconds, a `timedelta`, or text such as "1h". A key is a str of 1 to 1,024
    bytes of UTF-8 without control characters; `InvalidKey` otherwise. None is a value like any other.
    """

    __slots__ = ()

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        clock: Callable[[], float] | None = None,
        **overrides: Any,
    ) -> Cache:
        """Return the cache that *source* describes, not yet started.

        *source* is the path of a TOML file, the same document as a mapping, or nothing: then the file is
        `TIERCACHE_CONFIG`, or the nearest `tiercache.toml` or `[tool.tiercache]` from the working directory
        upward. *overrides* are tables that win over it and over the environment, such as
        `tier={"memory": {"max_entries": 5}}`. *clock* gives seconds, for tests.

        Raises ConfigError with all problems at once, PluginError where a plugin that is used is broken.
        """
        from tiercache.cache.variants import variant
        from tiercache.config.build import build
        from tiercache.config.plan import plan

        house = build(plan(source, overrides), Clock(clock))
        return variant(house)(house)

    async def start(self) -> Self:
        """Open every tier. A tier that is only away does not stop the application.

        Raises TierRefused where a tier never will work as configured: a wrong password, a file that is no
        cache.
        """
        if self._loop is not None:
            return self
        self._loop = asyncio.get_running_loop()
        try:
            await self._house.open()
        except BaseException:
            await self.close()
            raise
        self._bind()
        if not self._clock.exact:
            self._ticker = Ticker(self, self._clock)
        if self._house.nears:
            self._sweeper = self._loop.create_task(self._house.sweep(), name="tiercache-sweep")
        return self

    async def close(self) -> None:
        """Wait for what is under way, then close every tier, also where one fails. Safe to call twice."""
        opened, self._loop = self._loop is not None, None
        self._shut()
        if self._ticker is not None:
            self._ticker.stop()
            self._ticker = None
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        if opened:
            await self._house.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "open" if self._loop is not None else "closed"
        return f"<Cache {self._house.namespace}, {state}, routes: {', '.join(self._house.routes)}>"

    async def set(
        self,
        key: str,
        value: Any,
        *,
        route: str | None = None,
        ttl: float | str | timedelta | None = None,
        stale: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
    ) -> None:
        """Store *value* in every tier of its route, and drop the key from all others.

        *ttl* is how long it is fresh (None: the route's; "never": for ever), *stale* how long after that it
        may serve as a stale copy, *tags* what it can be invalidated by. Far tiers have it when this
        returns; one that fails is skipped and counted.

        Raises Unserializable where a far tier could not give the value back as it is, ValueError for a
        duration of zero or less.
        """
        way = self._way(key, route)
        await way.save(key, value, self._life(way, ttl, stale, tags))
        way.counts.sets += 1

    async def set_many(
        self,
        values: Mapping[str, Any],
        *,
        route: str | None = None,
        ttl: float | str | timedelta | None = None,
        stale: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
    ) -> None:
        """Store all *values*, in few calls a far tier. Where some can't be stored the others are, and the
        first error is raised.
        """
        tags = tuple(tags)
        ways = [(key, value, self._way(key, route)) for key, value in values.items()]
        results = await asyncio.gather(
            *(way.save(key, value, self._life(way, ttl, stale, tags)) for key, value, way in ways),
            return_exceptions=True,
        )
        for (_, _, way), result in zip(ways, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            way.counts.sets += 1

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

    async def delete(self, key: str) -> bool:
        """Drop *key* from every tier; return whether it was there."""
        return await self.delete_many((key,)) == 1

    async def delete_many(self, keys: Iterable[str]) -> int:
        """Drop *keys* from every tier; return how many were there."""
        return await self._house.delete({key: self._way(key, None).address(key) for key in keys})

    async def clear(self) -> None:
        """Drop everything in this namespace, from every tier.

        Raises Unsupported, and drops nothing, where a far tier can neither drop nor list its keys.
        """
        self._check_open()
        self._house.check_wipes()
        self._empty()
        await self._house.wipe()
        # Again: a read that began before the far tiers were done may have brought a value back.
        self._empty()

    def tiers_of(self, key: str, *, route: str | None = None) -> tuple[str, ...]:
        """Return the names of the tiers that *key* travels through, nearest first. No I/O."""
        return self._house.tiers_of(self._house.way(key, route))

    def stats(self) -> Stats:
        """Return what was counted since the cache was opened. Costs about 40 ns an entry of the near tier."""
        return self._house.stats()

    def _empty(self) -> None:
        self._house.empty()
        self._bind()
