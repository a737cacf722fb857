"""The forms of `get` and `peek`: one a kind of near tier, chosen when the cache is opened.

Each is a class of its own, with code of its own, because the interpreter specialises code by what it meets:
one `get` for dict and OrderedDict would be slow on both. What they share is written out in each.
"""

from __future__ import annotations

import contextlib
from threading import get_ident
from typing import Any, ClassVar

from tiercache.cache import Cache
from tiercache.engine.house import House
from tiercache.engine.pipeline import Route
from tiercache.entry import MISSING, Missing


def variant(house: House) -> type[Cache]:
    """Return the form that fits *house*: the fastest that keeps every promise of its stages."""
    routes = list(house.routes.values())
    near = routes[0].near
    if house.telemetry.options.traces and house.telemetry.options.hits:
        return Told
    shared = near is not None and all(route.near is near for route in routes)
    if near is None or not shared or any(route.copies or route.watchers for route in routes):
        return Careful
    if near.entries is not None:
        return Cache if near.touch is None else Touching
    if near.segments is not None:
        return Split if near.touch is None else SplitTouching
    return Careful


class Touching(Cache):
    """For policies that are told of each hit, such as exact LRU."""

    __slots__ = ()

    _written_out: ClassVar[str] = "peek"

    async def get(self, key: str, default: Any = None, route: str | None = None, as_type: Any = None) -> Any:
        """As `Cache.get`."""
        try:
            entry = self._entries[key]
            note = self._note
            note(key)  # type: ignore[misc]
        except (KeyError, TypeError):
            if self._bare:
                return self._absent(key, default, route)
            if as_type is not None or (probe := self._probe(key, route)) is None:
                return await self._miss(key, default, route, as_type)
            found = await probe.join()
            return found.value if found is not MISSING else self._unanswered(probe, default)
        if self.now < entry.fresh_until and as_type is None:
            entry.hits += 1
            return entry.value
        return await self._late(entry, key, default, route, as_type)

    def peek(self, key: str, default: Any = None) -> Any:
        """As `Cache.peek`."""
        try:
            entry = self._entries[key]
            note = self._note
            note(key)  # type: ignore[misc]
        except (KeyError, TypeError):
            return default
        if self.now < entry.fresh_until:
            entry.hits += 1
            return entry.value
        return self._judged(entry, default)


class Split(Cache):
    """For near tiers so large that they keep their entries in several dictionaries."""

    __slots__ = ()

    _written_out: ClassVar[str] = "peek"

    async def get(self, key: str, default: Any = None, route: str | None = None, as_type: Any = None) -> Any:
        """As `Cache.get`."""
        try:
            entry = self._segments[hash(key) & self._mask].get(key)
        except TypeError:
            entry = None
        if entry is None:
            if self._bare:
                return self._absent(key, default, route)
            if as_type is not None or (probe := self._probe(key, route)) is None:
                return await self._miss(key, default, route, as_type)
            found = await probe.join()
            return found.value if found is not MISSING else self._unanswered(probe, default)
        if self.now < entry.fresh_until and as_type is None:
            entry.hits += 1
            return entry.value
        return await self._late(entry, key, default, route, as_type)

    def peek(self, key: str, default: Any = None) -> Any:
        """As `Cache.peek`."""
        try:
            entry = self._segments[hash(key) & self._mask].get(key)
        except TypeError:
            entry = None
        if entry is None:
            return default
        if self.now < entry.fresh_until:
            entry.hits += 1
            return entry.value
        return self._judged(entry, default)


class SplitTouching(Cache):
    """For both at once."""

    __slots__ = ()

    _written_out: ClassVar[str] = "peek"

    async def get(self, key: str, default: Any = None, route: str | None = None, as_type: Any = None) -> Any:
        """As `Cache.get`."""
        try:
            entry = self._segments[hash(key) & self._mask][key]
            note = self._note
            note(key)  # type: ignore[misc]
        except (KeyError, TypeError):
            if self._bare:
                return self._absent(key, default, route)
            if as_type is not None or (probe := self._probe(key, route)) is None:
                return await self._miss(key, default, route, as_type)
            found = await probe.join()
            return found.value if found is not MISSING else self._unanswered(probe, default)
        if self.now < entry.fresh_until and as_type is None:
            entry.hits += 1
            return entry.value
        return await self._late(entry, key, default, route, as_type)

    def peek(self, key: str, default: Any = None) -> Any:
        """As `Cache.peek`."""
        try:
            entry = self._segments[hash(key) & self._mask][key]
            note = self._note
            note(key)  # type: ignore[misc]
        except (KeyError, TypeError):
            return default
        if self.now < entry.fresh_until:
            entry.hits += 1
            return entry.value
        return self._judged(entry, default)


class Careful(Cache):
    """For everything else: routes with different near tiers or none, near tiers of other kinds, copies for
    each reader, patterns that watch reads. Every read finds its route first.
    """

    __slots__ = ()

    _written_out: ClassVar[str] = ""

    async def get(self, key: str, default: Any = None, route: str | None = None, as_type: Any = None) -> Any:
        """As `Cache.get`."""
        if self._home._thread_id != get_ident():  # noqa: SLF001 - as `_way`, without its call
            self._here()
        way = self._house.way(key, route)
        if way.direct and as_type is None and key not in way.flights.loads:
            # What `_miss` comes to here, without its coroutine.
            way.counts.near_misses += 1
            found = await way.probe(key).join()
            if found is not MISSING:
                return way.own(found.value) if way.copies else found.value
            way.counts.missed(key)
            return default
        value = self._resident(key, way) if way.near is not None or way.watchers else MISSING
        if value is MISSING:
            return await self._miss(key, default, None, as_type, way)
        if way.supply is not None:
            self._renewed(key, way)
        if as_type is None:
            return value
        shaped = self._shapes.shape(value, as_type)
        return default if shaped is MISSING else shaped

    def peek(self, key: str, default: Any = None) -> Any:
        """As `Cache.peek`."""
        self._check_open()
        return self._read(key, self._house.way(key), default)

    def _resident(self, key: str, way: Route) -> Any | Missing:
        return self._read(key, way, MISSING)

    def _read(self, key: str, way: Route, default: Any) -> Any:
        entry = way.near.get(key) if way.near is not None else None
        value = MISSING if entry is None else self._judged(entry)
        if entry is not None and value is not MISSING:
            if way.near is not None and way.near.touch is not None:
                # Another thread may have dropped it meanwhile.
                with contextlib.suppress(KeyError):
                    way.near.touch(key)
            value = way.own(value)
        for seen in way.watchers:
            seen(key, hit=value is not MISSING)
        return default if value is MISSING else value


class Told(Careful):
    """For debugging: every near hit is a span, which costs a hundred times the hit."""

    __slots__ = ()

    def _read(self, key: str, way: Route, default: Any) -> Any:
        tracing = self._house.telemetry.tracing
        if tracing is None or not tracing.hits:
            return super()._read(key, way, default)
        with tracing.near(way.name, key) as span:
            value = super()._read(key, way, MISSING)
            if span is not None:
                span.set_attribute("tiercache.hit", value is not MISSING)
        return default if value is MISSING else value
