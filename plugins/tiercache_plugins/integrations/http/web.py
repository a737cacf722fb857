"""HttpCache: what an application holds to ask how its responses are cached, and to drop them."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from tiercache import Cache
from tiercache_plugins.integrations.http.asked import READABLE, origin_of, target_key
from tiercache_plugins.integrations.http.counts import HttpCounts
from tiercache_plugins.integrations.http.endpoints import Endpoints
from tiercache_plugins.integrations.http.settings import HttpSettings
from tiercache_plugins.integrations.http.shelf import Shelf
from tiercache_plugins.integrations.source import cache_of

_log = logging.getLogger("tiercache.http")


class HttpCache:
    """The responses of one application in one cache.

    *source* is a `Cache`, or anything that has one as `cache`, by the time of the first request. *app* is
    asked for its routes. *clock* gives seconds since the epoch, for tests.
    """

    def __init__(
        self,
        source: Any,
        settings: HttpSettings | None = None,
        *,
        app: Any = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self.settings = settings or HttpSettings()
        self.clock = clock
        self.counts = HttpCounts()
        self.endpoints = Endpoints(app)
        self._opened: Cache | None = None
        self._shelf: tuple[Cache, Shelf] | None = None
        self._told = False

    @property
    def cache(self) -> Cache:
        """The cache that holds the responses. Raises TypeError where *source* has none."""
        return cache_of(self._source)

    @property
    def shelf(self) -> Shelf:
        """Where the responses are."""
        cache = self.cache
        if self._shelf is None or self._shelf[0] is not cache:
            self._shelf = (cache, Shelf(cache, self.settings))
        return self._shelf[1]

    def check(self) -> None:
        """Raise ValueError where endpoints ask for caching that could show one user's response to another."""
        if problems := self.endpoints.read():
            raise ValueError("; ".join(problems))

    async def start(self) -> None:
        """Open the cache where nobody has."""
        cache = self.cache
        if not cache.is_open:
            await cache.start()
            self._opened = cache

    async def close(self) -> None:
        """Close the cache where `start` opened it."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    async def purge(
        self, url: str | None = None, *, prefix: str | None = None, tags: Iterable[str] = ()
    ) -> None:
        """Drop stored responses: of *url*, of all paths that begin with *prefix*, or with one of *tags*.

        *url* is whole, such as "https://shop.example/items?page=2", or a path alone: then with any query, on
        any host. What is on its way from the application is not stored either.

        Raises ValueError where nothing is asked for, for a *prefix* of more than 600 characters, and for a
        *url* that is none; Unsupported for tags where no far tier keeps markers.
        """
        labels = tuple(tags)
        if url is None and prefix is None and not labels:
            raise ValueError("purge needs a url, a prefix or tags")
        if prefix is not None and (not prefix.startswith("/") or len(prefix) > READABLE - 40):
            raise ValueError('a prefix of a path is accepted, such as "/items/", of at most 600 characters')
        if url is not None:
            for beginning in self._beginnings(url):
                await self.cache.invalidate(prefix=beginning)
        if prefix is not None:
            await self.cache.invalidate(prefix=self.settings.prefix + prefix)
        if labels:
            await self.cache.invalidate(tags=labels)

    async def purge_all(self) -> None:
        """Drop every stored response."""
        await self.cache.invalidate(prefix=self.settings.prefix)

    def stats(self) -> dict[str, Any]:
        """Return what was counted in this process, and which routes may be cached."""
        routes = self.endpoints.cacheable()
        return {**self.counts.as_dict(), "cacheable_routes": len(routes), "routes": routes}

    def trouble(self, what: str) -> None:
        """Note that the cache itself failed; the exception that is being handled is logged with it."""
        self.counts.troubles += 1
        if not self._told:
            # Once: a tier that is away would fill the log. The count goes on.
            self._told = True
            raised = sys.exception() is not None
            _log.error("%s; further errors are only counted", what, exc_info=raised)

    def _beginnings(self, url: str) -> list[str]:
        prefix = self.settings.prefix
        if url.startswith("/") and not url.startswith("//"):
            if "?" in url or "#" in url:
                raise ValueError("a path without query, or a whole URL, is accepted")
            return [f"{prefix}{url}|", f"{prefix}{url}?"]
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise ValueError(
                f'"{url[:80]}" is no URL; "https://shop.example/items" and "/items" are accepted'
            )
        return [target_key(prefix, parts.path or "/", parts.query, origin_of(parts.scheme, parts.netloc))]
