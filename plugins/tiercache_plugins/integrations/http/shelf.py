"""Where responses are kept: the cache, by targets and their variants.

Under the key of a target stands its response, or, where the response varies, a fork: the names that it varies
by, and a generation that is part of the keys of its variants. To drop what stands under the target is to drop
all of them, whatever their number.

A load of the kernel dates from before the application was asked, so that what is invalidated meanwhile is not
stored. The first variant of a target is written by a plain call, which would win over an invalidation; but it
is found by way of its fork alone, and that is brought by such a load.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from tiercache import Cache, Loaded
from tiercache_plugins.integrations.http.asked import Asked
from tiercache_plugins.integrations.http.settings import HttpSettings
from tiercache_plugins.integrations.http.stored import OWN_TAG, VALIDATE, Kept, Stored, fork, unpack

FORK_TTL: Final = 86_400.0
"""Seconds that the names which a target varies by are remembered."""


class Place(NamedTuple):
    """Where the response to a request is, or is to be."""

    key: str
    vary: tuple[str, ...]
    """What tells the variants of the target apart, as far as is known."""
    generation: str
    """Empty where the place is the target itself."""
    response: Stored | None


class Shelf:
    """Responses in *cache*. What the cache raises is raised."""

    __slots__ = ("_cache", "_settings")

    def __init__(self, cache: Cache, settings: HttpSettings) -> None:
        self._cache = cache
        self._settings = settings

    async def find(self, asked: Asked) -> Place:
        """Return the place of the response to *asked*, with what stands there."""
        assert asked.key is not None
        kept = unpack(await self._cache.get(asked.key, route=self._settings.route))
        if kept is not None and not asked.keyed <= set(kept.vary):
            # What stands was not told apart by a field that may have changed it.
            kept = fork(tuple(sorted({*kept.vary, *asked.keyed})))
            await self._cache.set(asked.key, kept.pack(), ttl=FORK_TTL, route=self._settings.route)
        if kept is None or not kept.generation:
            return Place(asked.key, (), "", kept.response if kept else None)
        key = self.variant(asked, kept)
        found = unpack(await self._cache.get(key, route=self._settings.route))
        return Place(key, kept.vary, kept.generation, found.response if found else None)

    @staticmethod
    def variant(asked: Asked, kept: Kept) -> str:
        """Return the key of the variant of *asked* among those of *kept*."""
        return f"{asked.key}#{kept.generation}.{asked.selecting(kept.vary)}"

    async def load(self, place: Place, loader: Any, *, forced: bool) -> Any:
        """Return what the one load of *place* brings, from the cache, from *loader*, or from another's.

        With *forced*, *loader* is called whatever is cached.
        """
        call = self._cache.refresh if forced else self._cache.get_or_set
        return await call(place.key, loader, route=self._settings.route)

    async def brought(
        self, asked: Asked, place: Place, vary: tuple[str, ...], response: Stored, tags: Iterable[str]
    ) -> Loaded:
        """Return what the load of *place* is to bring, so that *response*, which varies by *vary*, is stored.

        Where the place is of a fork whose names are too few, the fork is replaced, and nothing else is
        stored: its successor's first variant would not date from before the application was asked.
        """
        names, tags = tuple(tags), tuple(tags)
        if place.generation:
            if set(vary) <= set(place.vary):
                return self._loaded(Kept(place.vary, place.generation, response), tags)
            assert asked.key is not None
            wider = fork(tuple(sorted({*vary, *place.vary})))
            await self._cache.set(asked.key, wider.pack(), ttl=FORK_TTL, route=self._settings.route)
            return Loaded(None, store=False)
        if not vary:
            return self._loaded(Kept(response=response), tags)
        forked = fork(vary)
        ttl, stale = self._life(response)
        await self._cache.set(
            self.variant(asked, forked), Kept(vary, forked.generation, response).pack(),
            ttl=ttl, stale=stale or None, tags=names, route=self._settings.route,
        )  # fmt: skip
        return Loaded(forked.pack(), ttl=FORK_TTL, stale=0.0, tags=tags)

    def _loaded(self, kept: Kept, tags: tuple[str, ...]) -> Loaded:
        assert kept.response is not None
        ttl, stale = self._life(kept.response)
        return Loaded(kept.pack(), ttl=ttl, stale=stale, tags=tags)

    def _life(self, response: Stored) -> tuple[float, float]:
        """Return for how long the kernel takes *response* as fresh, and then as a stale copy.

        A response that is never used unasked is fresh for the kernel: so each request asks by itself, where
        those for a response that expired wait for the one that asks.
        """
        fresh = response.lifetime - response.age
        if response.flags & VALIDATE or fresh <= 0:
            return self._settings.keep, 0.0
        known = response.first(b"last-modified") is not None or (
            response.first(b"etag") is not None and not response.flags & OWN_TAG
        )
        kept = max(response.error, self._settings.keep if known else 0.0)
        return fresh + response.revalidate, max(kept - response.revalidate, 0.0)

    async def drop(self, keys: Iterable[str]) -> None:
        """Drop the targets with *keys*, and so their variants."""
        await self._cache.delete_many(keys)
