"""What loads: the calls that know where a value comes from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from typing import Any

from tiercache.cache.reading import Reading
from tiercache.contracts import Life
from tiercache.engine import authority
from tiercache.engine.bulk import Bulk
from tiercache.engine.flights import Found
from tiercache.engine.loads import Load
from tiercache.engine.locks.leases import Lease
from tiercache.engine.locks.turns import claimed, leads
from tiercache.engine.pipeline import Route
from tiercache.entry import MISSING
from tiercache.errors import LoadCycle, Unserializable


class Loading(Reading):
    """The third of `Cache` that loads."""

    __slots__ = ()

    async def get_or_set(
        self,
        key: str,
        loader: Callable[..., Any],
        *,
        route: str | None = None,
        ttl: float | str | timedelta | None = None,
        stale: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
        as_type: Any = None,
        fallback: Any = MISSING,
    ) -> Any:
        """Return the value of *key*; where nothing fresh is cached, load it, store it and return it.

        *loader* takes nothing, or one `LoadContext`, and returns the value, a `Loaded`, or an awaitable of
        either. A sync loader runs on the event loop: wrap one that is slow, as
        `lambda: asyncio.to_thread(load)`. However many callers ask at once, one loader runs; a caller who is
        cancelled hurts nobody else, and the load is cancelled only when the last one leaves. The value is
        there for all callers before the far tiers have it.

        Where the loader fails, a stale copy is served if the entry was stored with *stale* (or its route has
        it), else *fallback*, else the error is raised to all who wait; it is not cached, unless the route
        says so. With the route's `soft_timeout` a stale copy is also served where the loader is slow.

        Raises LoadCycle where the loader asks for its own key, or for one whose load waits for this one,
        LoadCancelled where it was cancelled from inside, LoadTimeout after the route's `hard_timeout`,
        Unserializable where a far tier can't store what it brought.
        """
        try:
            entry = self._direct.get(key)
        except TypeError:
            entry = None
        if entry is not None and self.now < entry.fresh_until and as_type is None and route is None:
            # What `get` does. A refresh is never due before this ends.
            entry.hits += 1
            return entry.value
        way = self._way(key, route)
        value: Any = MISSING
        if entry is not None or self._direct is not self._entries:
            value = self._resident(key, way)
        if value is not MISSING and as_type is not None:
            value = self._shapes.shape(value, as_type)
        if value is not MISSING:
            if way.rules.refresh_ahead is not None:
                self._refresh_due(way, key, loader, self._life(way, ttl, stale, tags))
            return value
        way.counts.near_misses += 1
        told = ttl is not None or stale is not None or tags
        life = self._life(way, ttl, stale, tags) if told else way.life
        since = way.markers.newest
        load = way.flights.loads.get(key)
        if load is None:
            if (error := way.negatives.remembered(key)) is not None:
                if fallback is MISSING:
                    raise error
                return fallback
            load = Load(way, key, loader, life)
            load.start()
        try:
            # What `load.wait` does, without a coroutine for each of a crowd.
            waiter = load.join()
            try:
                value = way.own(await waiter)
            finally:
                load.leave(waiter)
        except (LoadCycle, Unserializable):
            raise
        except Exception:
            if fallback is MISSING:
                raise
            return fallback
        finally:
            if load.loading:
                way.counts.missed(key)
        if load.outdated(since):
            return await self.get_or_set(
                key, loader, route=route, ttl=ttl, stale=stale, tags=tags, as_type=as_type, fallback=fallback
            )
        if as_type is None:
            return value
        shaped = self._shapes.shape(value, as_type)
        if shaped is not MISSING or load.loading:
            return value if shaped is MISSING else shaped
        # What was cached is of an earlier shape, and the caller has a loader: let it bring a new one.
        await self._house.delete({key: way.address(key)})
        return await self.get_or_set(
            key, loader, route=route, ttl=ttl, stale=stale, tags=tags, as_type=as_type, fallback=fallback
        )

    async def get_or_set_many(
        self,
        keys: Iterable[str],
        loader: Callable[[list[str]], Any],
        *,
        route: str | None = None,
        ttl: float | str | timedelta | None = None,
        stale: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
    ) -> dict[str, Any]:
        """Return the values of *keys*; those that are not cached are loaded together, stored and returned.

        *loader* is given the list of missing keys and returns a mapping, or an awaitable of one; a key that
        is not in it has no value, is not stored, and is missing from the result. A key that is being loaded
        already is not loaded again: this waits for that load, and single callers wait for this one. Raises
        as `get_or_set` does.
        """
        wanted = list(dict.fromkeys(keys))
        tags = tuple(tags)
        found: dict[str, Any] = await self.get_many(wanted, route=route)
        missing = [key for key in wanted if key not in found]
        waiting: list[tuple[str, Route, Load, asyncio.Future[Any]]] = []
        mine: list[tuple[str, Route]] = []
        since = self._house.invalidation.markers.newest
        again: list[str] = []
        try:
            for key in missing:
                way = self._way(key, route)
                load = way.flights.loads.get(key)
                if load is None:
                    mine.append((key, way))
                else:
                    waiting.append((key, way, load, load.join()))
            lives = {key: self._life(way, ttl, stale, tags) for key, way in mine}
            async with claimed(mine) as turns:
                bulk = Bulk(loader, [key for key, way in mine if leads(way, key, turns)])
                for key, way in mine:
                    turn = turns.get(key)
                    if isinstance(turn, Found):
                        found[key] = way.own(turn.value)
                        continue
                    load = way.flights.loads.get(key)
                    if load is None:
                        # Without its turn it waits for another process, and for a result that may never come.
                        own = bulk if leads(way, key, turns) else Bulk(loader, [key])
                        load = Load(way, key, partial(own.one, key), lives[key])
                        if own is bulk:
                            # The loader is called once the first of them runs; others may run later, and
                            # what has changed between is newer than what they bring.
                            load.since, load.began = way.moment(), way.clock.early()
                        if isinstance(turn, Lease):
                            load.lease = turn
                            del turns[key]
                        load.start(look=turn is False)
                    waiting.append((key, way, load, load.join()))
            for key, way, load, waiter in waiting:
                value = await waiter
                if load.outdated(since):
                    again.append(key)
                elif value is not MISSING:
                    found[key] = way.own(value)
        finally:
            for key, way, load, waiter in waiting:
                if load.loading:
                    way.counts.missed(key)
                # Those behind one that failed were not waited for.
                waiter.cancel()
                load.leave(waiter)
        if again:
            found |= await self.get_or_set_many(again, loader, route=route, ttl=ttl, stale=stale, tags=tags)
        return {key: found[key] for key in wanted if key in found}

    async def refresh(
        self,
        key: str,
        loader: Callable[..., Any],
        *,
        route: str | None = None,
        ttl: float | str | timedelta | None = None,
        stale: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
    ) -> Any:
        """Load *key* anew, whatever is cached, store it and return it. Raises as `get_or_set` does.

        Readers are served what is cached until then. A load that is under way began earlier, so its result
        is not stored.
        """
        way = self._way(key, route)
        way.detach(key)
        load = Load(way, key, loader, self._life(way, ttl, stale, tags))
        load.start(look=False)
        return way.own(await load.wait())

    async def expire(self, key: str, *, route: str | None = None) -> bool:
        """Let the entry of *key* end now, but keep it as a stale copy for as long as it was stored with.

        The soft form of `delete`: the next `get_or_set` loads, and where that fails serves the copy. Return
        whether there was something fresh.
        """
        return await authority.expire(self._way(key, route), key)

    def _refresh_due(self, way: Route, key: str, loader: Callable[..., Any], life: Life) -> None:
        """Start a load in the background where the near entry of *key* has come to the age for it."""
        entry = way.near.get(key) if way.near is not None else None
        if entry is None or self._clock.monotonic() < entry.fresh_until or key in way.flights.loads:
            return
        way.counts.refreshes += 1
        Load(way, key, loader, life, refreshes=entry.created_at).start()
