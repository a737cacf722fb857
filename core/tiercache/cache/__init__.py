"""Cache: the object that applications hold."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tiercache.cache.forks import remember
from tiercache.cache.reloading import Reloading
from tiercache.clock import Clock, Ticker
from tiercache.engine.stats import Stats

if TYPE_CHECKING:
    from tiercache.decorators import Decorator
    from tiercache.sync import SyncCache


class Cache(Reloading):
    """A cache as its configuration describes it.

    Open it with `Cache.open()`, then use it as `async with`, or call `start` and `close`. It belongs to the
    event loop that started it. Every method takes the key first; everything after the value is keyword-only.

    A duration is a number of seconds, a `timedelta`, or text such as "1h". A key is a str of 1 to 1,024
    bytes of UTF-8 without control characters; `InvalidKey` otherwise. None is a value like any other.
    """

    __slots__ = ("_sync",)

    _written_out: ClassVar[str] = "entries"

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
        return _maker(source, overrides, clock)()

    @classmethod
    def open_sync(
        cls,
        source: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        clock: Callable[[], float] | None = None,
        **overrides: Any,
    ) -> SyncCache:
        """Return the cache that *source* describes for code without an event loop, started.

        It has a loop of its own in a daemon thread. Use it as `with`, or call `close`; a program that does
        neither ends all the same, at the price of writes still under way. The child of a fork opens it anew
        at its first call. Arguments and errors are those of `open` and `start`.
        """
        from tiercache.sync.own import OwnSyncCache

        return OwnSyncCache(_maker(source, overrides, clock))

    @property
    def sync(self) -> SyncCache:
        """The same calls for threads, answered by the event loop that this cache was started on."""
        try:
            return self._sync
        except AttributeError:
            from tiercache.sync import SyncCache

            self._sync: SyncCache = SyncCache(self)
            return self._sync

    @property
    def is_open(self) -> bool:
        """Whether the cache was started, and is not closed."""
        return self._loop is not None

    async def start(self) -> Self:
        """Open every tier. A tier that is only away does not stop the application.

        Raises TierRefused where a tier never will work as configured: a wrong password, a file that is no
        cache.
        """
        if self._loop is not None:
            return self
        self._check_origin()
        self._at_home(asyncio.get_running_loop())
        remember(self)
        if not self._clock.exact:
            self._ticker = Ticker(self, self._clock)
            self._house.invalidation.ticker = self._ticker
        try:
            await self._house.open()
        except BaseException:
            await self.close()
            raise
        self._bind()
        if self._house.nears:
            self._sweeper = asyncio.create_task(self._house.sweep(), name="tiercache-sweep")
        try:
            await self._house.work.open(self)
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Wait for what is under way, then close every tier, also where one fails. Safe to call twice."""
        if self._loop is not None:
            await self._house.work.close()
        loop, self._loop = self._loop, None
        self._shut()
        if self._ticker is not None:
            self._ticker.stop()
            self._ticker = self._house.invalidation.ticker = None
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None:
            sweeper.cancel()
        if loop is not None:
            self._lending.end()
            await self._house.close()
        if sweeper is not None and loop is asyncio.get_running_loop():
            # A loop that is closed right after this must not find a task that never heard of its end.
            await asyncio.wait([sweeper])

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
        if self._home._thread_id != get_ident():  # noqa: SLF001 - as `_way`, without its call
            self._here()
        way = self._house.way(key, route)
        told = ttl is not None or stale is not None or tags
        life = self._life(way, ttl, stale, tags) if told else way.life
        store = way.store
        if store is not None:
            store(key, value, life)
        else:
            await way.save(key, value, life)
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

    async def delete(self, key: str) -> bool:
        """Drop *key* from every tier; return whether it was there."""
        return await self.delete_many((key,)) == 1

    async def delete_many(self, keys: Iterable[str]) -> int:
        """Drop *keys* from every tier; return how many were there."""
        return await self._house.delete({key: self._way(key, None).address(key) for key in keys})

    async def invalidate(
        self, *, tags: Iterable[str] = (), prefix: str | None = None, match: str | None = None
    ) -> int | None:
        """Drop what carries one of *tags*, what begins with *prefix*, or what the glob *match* matches.

        Tags and prefixes, which may be given together, take the same time however much they concern: one
        marker is written, and what was stored or began to load before it is never served again, also not as
        a stale copy. Nobody has counted then, so None is returned. So it is with a *match* that is a prefix
        and a star, such as "user:*". Any other glob deletes what it finds, in chunks, and returns how many
        keys were there; where a far tier can't be listed, all that begins as the matches do is invalidated
        by a marker instead, and None is returned.

        Raises ValueError where nothing is asked for, or *match* beside others; Unsupported for tags where no
        far tier keeps markers.
        """
        self._here()
        labels = self._house.invalidation.check(tags, prefix, match)
        told = self._house.telemetry.invalidating
        if match is None:
            with told(tags=len(labels), prefix=prefix is not None):
                await self._house.invalidation.covering(labels, prefix)
            return None
        if not match.strip("*"):
            await self.clear()
            return None
        with told(match=True):
            return await self._house.invalidation.matching(match)

    async def clear(self) -> None:
        """Drop everything in this namespace, from every tier.

        What was stored or began to load before is never served again, also where a far tier is away and can't
        be emptied yet. Raises Unsupported, and drops nothing, where a far tier can neither keep markers, nor
        drop or list its keys.
        """
        self._here()
        self._house.check_wipes()
        with self._house.telemetry.invalidating(clear=True):
            durable = self._house.invalidation.mark_everything()
            self._empty()
            await self._house.invalidation.told(durable)
            await self._house.wipe()

    def tiers_of(self, key: str, *, route: str | None = None) -> tuple[str, ...]:
        """Return the names of the tiers that *key* travels through, nearest first. No I/O."""
        return self._house.tiers_of(self._house.way(key, route))

    def stats(self) -> Stats:
        """Return what was counted since the cache was opened. Costs some 0.1 µs an entry of the near tier."""
        return self._house.stats()

    def cached(
        self,
        *,
        ttl: float | str | timedelta | None = None,
        stale: float | str | timedelta | None = None,
        key: str | Callable[..., str] | None = None,
        tags: Iterable[str] | Callable[..., Iterable[str]] = (),
        route: str | None = None,
        ignore: Sequence[str] = (),
        version: int | str = 1,
    ) -> Decorator:
        """Return a decorator for functions and methods, sync or async, that caches what they return.

        *key* is a template such as "user:{user_id}", or a function that makes the key from the arguments;
        without it the key is made of the function's name, *version* and all arguments but those named in
        *ignore*. *tags* are templates too. The cache need not be open before the function is called. What
        the decorated function can do is said at `SyncCached`.

        Raises ValueError or TypeError, when the function is decorated, for generators, for templates that
        can't work and for keys that calls would share.
        """
        from tiercache.decorators import decorator

        made: Decorator = decorator(
            self.sync, ttl=ttl, stale=stale, key=key, tags=tags, route=route, ignore=ignore, version=version,
            own_loop=False,
        )  # fmt: skip
        return made

    def _empty(self) -> None:
        self._house.empty()
        self._bind()


def _maker(
    source: str | os.PathLike[str] | Mapping[str, Any] | None,
    overrides: Mapping[str, Any],
    clock: Callable[[], float] | None,
) -> Callable[[], Cache]:
    """Return what makes the cache of a configuration, which is read now, once."""
    from tiercache.cache.variants import variant
    from tiercache.config.build import build
    from tiercache.config.plan import plan

    planned = plan(source, overrides)

    def make() -> Cache:
        house = build(planned, Clock(clock))
        house.origin = source, dict(overrides)
        return variant(house)(house)

    return make
