"""What the cache of outgoing calls may be told."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from tiercache.units import size
from tiercache_plugins.integrations.http.settings import HttpSettings, checked_prefix, finite

DEFAULTS: Final = HttpSettings(
    prefix="out:", ttl=0.0, make_etags=False, targeted=(), shared=False, estimate=False
)
"""Those of a private cache: freshness is what responses state, and nothing is added to them."""


def outgoing_settings(
    *,
    shared: bool = DEFAULTS.shared,
    default_ttl: float | str | timedelta | None = None,
    prefix: str = DEFAULTS.prefix,
    route: str | None = None,
    max_body: int | str = DEFAULTS.max_body,
    keep: float | str | timedelta = DEFAULTS.keep,
    stale_if_error: float | str | timedelta | None = None,
    store_cookies: bool = DEFAULTS.store_cookies,
    name: str | None = DEFAULTS.name,
) -> HttpSettings:
    """Return settings for outgoing calls, checked.

    *default_ttl* is how long a response is fresh that states nothing; None: such a response is stored only
    if it can be confirmed by a 304, and then is confirmed each time. The others are described at
    `HttpSettings`; sizes and durations may be text, such as "5MB" and "1h".

    Raises ValueError for what is none.
    """
    return HttpSettings(
        prefix=checked_prefix(prefix),
        route=route,
        ttl=0.0 if default_ttl is None else finite(default_ttl),
        max_body=size(max_body),
        keep=finite(keep),
        stale_if_error=0.0 if stale_if_error is None else finite(stale_if_error),
        store_cookies=store_cookies,
        make_etags=DEFAULTS.make_etags,
        name=name,
        targeted=DEFAULTS.targeted,
        shared=shared,
        estimate=DEFAULTS.estimate,
    )
