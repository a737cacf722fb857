"""ApiCache: what other services answered, kept in the cache that all integrations share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import httpx

    from tiercache_plugins.integrations.http import HttpCache
    from tiercache_plugins.integrations.http.outgoing import AsyncCacheTransport, CacheTransport

COUNTED: Final = (
    "hits",
    "stale",
    "stood_in",
    "collapsed",
    "confirmed",
    "misses",
    "passed",
    "stored",
    "troubles",
)


class ApiCache:
    """The responses to calls that the application makes by httpx.

    *source* has the cache as `cache`. *prefix* is what keys begin with, and *ttl* the freshness of responses
    that state none; None leaves nothing to guesses. Needs httpx once a transport is asked for.
    """

    def __init__(self, source: Any, *, prefix: str, ttl: float | None = None) -> None:
        self._source = source
        self._prefix = prefix
        self._ttl = ttl
        self._https: list[HttpCache] = []

    def transport(
        self, transport: httpx.AsyncBaseTransport | None = None, **options: Any
    ) -> AsyncCacheTransport:
        """Return a transport for an `httpx.AsyncClient`, around *transport*.

        *options* are those of `AsyncCacheTransport`. Raises ValueError for what they may not be.
        """
        from tiercache_plugins.integrations.http.outgoing import AsyncCacheTransport

        made = AsyncCacheTransport(self._source, transport, **self._options(options))
        self._https.append(made.http)
        return made

    def sync_transport(self, transport: httpx.BaseTransport | None = None, **options: Any) -> CacheTransport:
        """Return a transport for an `httpx.Client`, which threads use while the cache is open on its loop.

        *options* are those of `CacheTransport`. Raises ValueError for what they may not be.
        """
        from tiercache_plugins.integrations.http.outgoing import CacheTransport

        made = CacheTransport(self._source, transport, **self._options(options))
        self._https.append(made.http)
        return made

    def stats(self) -> dict[str, int]:
        """Return the number of transports, and what they counted together."""
        counts = [http.counts.as_dict() for http in self._https]
        return {"transports": len(counts)} | {name: sum(each[name] for each in counts) for name in COUNTED}

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"prefix": self._prefix, "default_ttl": self._ttl, **options}
