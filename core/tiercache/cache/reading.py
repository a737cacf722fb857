"""What reads: the near path, and all that goes through it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from threading import get_ident
from typing import TYPE_CHECKING, Any, cast

from tiercache.cache.base import Base
from tiercache.engine.flights import Found, Probe
from tiercache.engine.pipeline import Route
from tiercache.engine.snapshot import hottest
from tiercache.entry import MISSING, Entry, Hot, Missing

if TYPE_CHECKING:
    from tiercache.cache.loading import Loading
    from tiercache.engine.explaining import Explanation


class Reading(Base):
    """The half of `Cache` that reads."""

    __slots__ = ()

    async def get(self, key: str, default: Any = None, route: str | None = None, as_type: Any = None) -> Any:
        """Return the value of *key*, or *default* where nothing fresh is cached.

        *route* reads the tiers of another route than the key's own. *as_type* is a dataclass, a pydantic
        model, a TypedDict or any other type that the value is to be; what does not fit it is a miss.
        """
        # No parameter is for keywords only: the defaults of those are looked up in a dictionary at each call,
        # which takes 20 to 30 ns of a hit's 150.
        try:
            entry = self._entries.get(key)
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
        """Return the value of *key* from the near tier alone, or *default*. Counts as a read."""
        try:
            entry = self._entries.get(key)
        except TypeError:
            entry = None
        if entry is None:
            return default
        if self.now < entry.fresh_until:
            entry.hits += 1
            return entry.value
        return self._judged(entry, default)

    async def get_many(
        self, keys: Iterable[str], *, route: str | None = None, as_type: Any = None
    ) -> dict[str, Any]:
        """Return the values of those of *keys* that are cached, in one call a far tier."""
        wanted = list(dict.fromkeys(keys))
        if len(wanted) > 1:
            for far in self._house.fars.values():
                far.reads.together()
        found: dict[str, Any] = {}
        asked = []
        for key in wanted:
            way = self._way(key, route)
            value = self._resident(key, way)
            if value is not MISSING:
                found[key] = value
                continue
            way.counts.near_misses += 1
            asked.append((key, way, way.probe(key).join() if way.fars else None))
        supplied = []
        for key, way, waiter in asked:
            arrived = await waiter if waiter is not None else MISSING
            if (
                arrived is MISSING
                and way.supply is not None
                and (loader := way.supply.missing(key)) is not None
            ):
                supplied.append(self._supplied(key, loader, way))
            elif arrived is MISSING:
                way.counts.missed(key)
            else:
                found[key] = way.own(arrived.value)
        found |= {key: value for key, value in await asyncio.gather(*supplied) if value is not MISSING}
        if as_type is not None:
            shaped = {key: self._shapes.shape(value, as_type) for key, value in found.items()}
            found = {key: value for key, value in shaped.items() if value is not MISSING}
        return {key: found[key] for key in wanted if key in found}

    async def exists(self, key: str, *, route: str | None = None) -> bool:
        """Return whether something fresh is cached under *key*."""
        way = self._way(key, route)
        return self._house.standing(key, way) is not None or await way.read(key, reading=False) is not MISSING

    async def ttl(self, key: str, *, route: str | None = None) -> float | None:
        """Return for how many seconds *key* stays fresh, `math.inf` for ever, None where it is absent."""
        way = self._way(key, route)
        entry = self._house.standing(key, way)
        if entry is None or way.clamped:
            # A near copy that is clamped knows its own life, not the entry's.
            found = await way.read(key, reading=False)
            if found is not MISSING:
                return way.remaining(found)
        return None if entry is None else entry.fresh_until + entry.terms.ahead - self._clock.monotonic()

    async def keys(self, match: str = "*") -> AsyncIterator[str]:
        """Yield the keys that are cached and fresh, each once, in no order, from all tiers that can list.

        *match* is a glob: `*` any run, `?` one character, `[a-z]` and `[!a-z]` classes; a backslash takes
        the next character literally.
        """
        self._check_open()
        async for key in self._house.keys(match):
            yield key

    def hottest(self, count: int) -> list[Hot]:
        """Return the keys of the near tiers that were read most, at most *count*, the hottest first.

        Policies halve the reads that they count now and then, so that what was hot once gives way to what is.
        Looks at every near entry, in some 0.1 µs each.
        """
        self._check_open()
        return hottest(self._house.nears.values(), count)

    async def explain(self, key: str, *, route: str | None = None) -> Explanation:
        """Tell where *key* goes and why, what each tier holds of it, and what a read would be answered with.

        Nothing is changed by it, and nothing is counted as a read.
        """
        from tiercache.engine.explaining import explain

        self._here()
        return await explain(self._house, key, route)

    def _absent(self, key: str, default: Any, route: str | None) -> Any:
        """What `_miss` comes to where nothing is behind the near tiers, without its coroutine."""
        if self._home._thread_id != get_ident():  # noqa: SLF001 - as `_way`, without its call
            self._here()
        counts = self._house.way(key, route).counts
        counts.near_misses += 1
        # As `RouteCounts.missed`, without its call, a tenth of a miss.
        counts.misses += 1
        patterns = counts.patterns
        (patterns.of(key) if patterns.declared else patterns.other).misses += 1
        return default

    def _probe(self, key: str, route: str | None) -> Probe | None:
        """Begin the far read that `_miss` mostly comes to, and which needs no coroutine of its own; return
        None where there is more to be asked. Nothing is copied here: see `variants`.
        """
        way = self._way(key, route)
        if not way.fars or way.supply is not None or key in way.flights.loads:
            return None
        way.counts.near_misses += 1
        return way.probe(key)

    def _unanswered(self, probe: Probe, default: Any) -> Any:
        """Return the stale copy that stands in where no far tier answered, else *default*."""
        way = probe.route
        found = way.stood_in(probe)
        if found is not MISSING:
            return found.value
        way.counts.missed(probe.key)
        return default

    async def _miss(
        self, key: str, default: Any, route: str | None, as_type: Any, way: Route | None = None
    ) -> Any:
        if way is None:
            way = self._way(key, route)
        if way.supply is not None and (loader := way.supply.missing(key)) is not None:
            _, value = await self._supplied(key, loader, way, as_type)
            return default if value is MISSING else value
        way.counts.near_misses += 1
        # Asked here, so that neither a miss with nothing behind the near tier nor a far read costs a further
        # coroutine.
        found: Found | Missing = MISSING
        if key in way.flights.loads:
            found = await way.read(key)
        elif way.fars:
            probe = way.probe(key)
            found = await probe.join()
            if found is MISSING:
                found = way.stood_in(probe)
        if found is MISSING:
            way.counts.missed(key)
            return default
        value = way.own(found.value) if way.copies else found.value
        if as_type is None:
            return value
        shaped = self._shapes.shape(value, as_type)
        return default if shaped is MISSING else shaped

    async def _late(self, entry: Entry, key: str, default: Any, route: str | None, as_type: Any) -> Any:
        value = self._judged(entry)
        if value is MISSING:
            return await self._miss(key, default, route, as_type)
        if entry.terms.ahead:
            self._renewed(key, self._way(key, route))
        if as_type is None:
            return value
        shaped = self._shapes.shape(value, as_type)
        return default if shaped is MISSING else shaped

    async def _supplied(
        self, key: str, loader: Callable[..., Any], way: Route, as_type: Any = None
    ) -> tuple[str, Any]:
        """Return *key* and what a pattern's *loader* brings for it, stored as any load."""
        cache = cast("Loading", self)
        return key, await cache.get_or_set(key, loader, route=way.name, as_type=as_type)

    def _renewed(self, key: str, way: Route) -> None:
        """Let a pattern load *key* anew, which was read, is fresh, and has come to the age for it."""
        if way.supply is not None and (loader := way.supply.due(key)) is not None:
            cast("Loading", self)._refresh_due(way, key, loader, way.life)  # noqa: SLF001 - the same object

    def _judged(self, entry: Entry, default: Any = MISSING) -> Any:
        """Return the value of *entry* where it is fresh by the real clock, and count the hit."""
        now, terms = self._clock.monotonic(), entry.terms
        if now >= entry.fresh_until + terms.ahead:
            return default
        if not terms.trust.holds() or self._house.invalidation.dead(entry):
            return default
        if self._ticker is not None:
            self._ticker.wake()
        entry.hits += 1
        value = entry.value
        if terms.late is not None and now >= entry.fresh_until:
            terms.late(entry)
        return value

    def _resident(self, key: str, way: Route) -> Any | Missing:
        """Return the near value of *key* on *way*, as a read; variants that read otherwise override it."""
        del way
        return self.peek(key, MISSING)
