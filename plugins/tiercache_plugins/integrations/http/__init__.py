"""Responses of FastAPI and Starlette applications, cached as RFC 9111 has it for shared caches.

`setup_fastapi_caching` puts the cache before an application. `cached_response`, `uncached_response` and
`invalidates` decorate endpoints. `HttpCacheMiddleware` goes before any ASGI application.
"""

from tiercache_plugins.integrations.http.counts import HttpCounts
from tiercache_plugins.integrations.http.middleware import HttpCacheMiddleware
from tiercache_plugins.integrations.http.rules import cached_response, invalidates, uncached_response
from tiercache_plugins.integrations.http.settings import HttpSettings
from tiercache_plugins.integrations.http.setup import setup_fastapi_caching
from tiercache_plugins.integrations.http.web import HttpCache

__all__ = [
    "HttpCache",
    "HttpCacheMiddleware",
    "HttpCounts",
    "HttpSettings",
    "cached_response",
    "invalidates",
    "setup_fastapi_caching",
    "uncached_response",
]
