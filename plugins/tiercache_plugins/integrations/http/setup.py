"""setup_fastapi_caching: one call that puts the cache before an application."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tiercache.units import size
from tiercache_plugins.integrations.http.middleware import HttpCacheMiddleware
from tiercache_plugins.integrations.http.settings import HttpSettings, checked_prefix, finite
from tiercache_plugins.integrations.http.web import HttpCache

_DEFAULTS = HttpSettings()


def setup_fastapi_caching(
    app: Any,
    source: Any,
    *,
    api_cache_ttl: float | str | timedelta | None = "configured",
    api_cache_prefix: str | None = None,
    route: str | None = None,
    max_body: int | str = _DEFAULTS.max_body,
    keep: float | str | timedelta = _DEFAULTS.keep,
    stale_if_error: float | str | timedelta | None = None,
    heed_requests: bool = _DEFAULTS.heed_requests,
    store_cookies: bool = _DEFAULTS.store_cookies,
    make_etags: bool = _DEFAULTS.make_etags,
    name: str | None = _DEFAULTS.name,
    targeted: tuple[str, ...] = _DEFAULTS.targeted,
    clock: Callable[[], float] = time.time,
) -> HttpCache:
    """Cache the responses of *app*, a FastAPI or Starlette application, and return what to purge them by.

    Call it before the application starts; routes may come later. *source* is a `Cache`, or anything that has
    one as `cache`; where it is not open when the application starts, it is opened then, and closed with it.
    GET and HEAD are answered as RFC 9111 says for a shared cache.

    *api_cache_ttl* is how long a response is fresh that states nothing, where neither it nor its request
    carries a cookie or another credential; None leaves such responses to the estimates of the RFC. It and
    *api_cache_prefix*, what the keys begin with, are taken from `source.config` where that has them and they
    are not given; else they are 300 seconds and "api:". Where that configuration says that
    `enable_api_caching` is off, the first is None, and where `enable_fastapi_middleware` is, the application
    stays as it is. The other options are described at `HttpSettings`.

    The application does not start where an endpoint asks to be cached, a security dependency guards it, and
    it does not say whose its responses are. Guarded endpoints that don't ask are never cached.

    Raises ValueError for durations and sizes that are none, TypeError where *app* takes no middleware.
    """
    if not callable(getattr(app, "add_middleware", None)):
        raise TypeError(
            f"{type(app).__name__} takes no middleware; put HttpCacheMiddleware around other applications"
        )
    config = getattr(source, "config", None)
    if api_cache_ttl == "configured":
        asked = getattr(config, "enable_api_caching", True)
        api_cache_ttl = getattr(config, "api_cache_ttl", _DEFAULTS.ttl) if asked else None
    if api_cache_prefix is None:
        api_cache_prefix = getattr(config, "api_cache_prefix", _DEFAULTS.prefix)
    settings = HttpSettings(
        prefix=checked_prefix(api_cache_prefix),
        route=route,
        ttl=None if api_cache_ttl is None else finite(api_cache_ttl),
        max_body=size(max_body),
        keep=finite(keep),
        stale_if_error=0.0 if stale_if_error is None else finite(stale_if_error),
        heed_requests=heed_requests,
        store_cookies=store_cookies,
        make_etags=make_etags,
        name=name,
        targeted=tuple(field.lower() for field in targeted),
    )
    http = HttpCache(source, settings, app=app, clock=clock)
    if getattr(config, "enable_fastapi_middleware", True):
        app.add_middleware(HttpCacheMiddleware, http=http)
        if callable(told := getattr(source, "stands_before", None)):
            told(http)
    return http
