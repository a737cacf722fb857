"""What an HTTP cache may be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from tiercache.units import seconds

CREDENTIALS: Final = (
    "authorization", "cookie", "proxy-authorization", "x-access-token", "x-amz-security-token", "x-api-key",
    "x-auth-token", "x-authenticated-user", "x-forwarded-user", "x-remote-user", "x-session-id",
    "x-session-token", "x-user", "x-user-id",
)  # fmt: skip
"""Fields that tell who asks. What states no freshness of its own is not cached for requests with them."""
KEYED: Final = (
    "origin", "x-forwarded-host", "x-forwarded-prefix", "x-forwarded-proto", "x-forwarded-scheme",
    "x-http-method-override", "x-original-url", "x-rewrite-url",
)  # fmt: skip
"""Fields that change what applications answer though not every answer says so by Vary: wherever they are
sent, responses differ by them.
"""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How responses are cached. Durations are seconds, sizes bytes."""

    prefix: str = "api:"
    """What the keys of responses begin with."""
    route: str | None = None
    """The route of the cache that responses travel; None: the one that their keys choose."""
    ttl: float | None = 300.0
    """How long a response is fresh that states nothing, where neither it nor its request carries a cookie or
    another credential; None: such a response is only cached if RFC 9111 lets its freshness be estimated."""
    max_body: int = 1024 * 1024
    """Longer bodies are passed on and not stored."""
    keep: float = 3600.0
    """How long a response with a validator is kept after it went stale, to be confirmed by a 304."""
    stale_if_error: float = 0.0
    """How long after that a response may stand in for an error, where it does not say itself."""
    heed_requests: bool = True
    """Whether clients may ask for fresher responses by Cache-Control; no-store and only-if-cached always
    hold."""
    store_cookies: bool = False
    """Whether responses that set cookies are stored, cookies and all."""
    make_etags: bool = True
    """Whether a stored response without an entity tag is given one, so that clients can revalidate."""
    name: str | None = "tiercache"
    """How the cache calls itself in Cache-Status; None: that field is not sent."""
    targeted: tuple[str, ...] = ("tiercache-cache-control",)
    """Fields that take the place of Cache-Control here, the first that is present (RFC 9213). To obey what is
    meant for networks before the application, add "cdn-cache-control" or "surrogate-control"; mind that what
    purges those does not purge this cache."""
    credentials: tuple[str, ...] = CREDENTIALS
    """Fields that tell who asks."""
    keyed: tuple[str, ...] = KEYED
    """Fields that responses differ by wherever they are sent."""
    shared: bool = True
    """Whether the cache may show a response to another user. Otherwise it is private: it stores what is meant
    for one user as well, and what was sent to other credentials is never found."""
    estimate: bool = True
    """Whether the freshness of a response that states none is estimated from Last-Modified, where `ttl` says
    nothing of it either."""


def finite(value: float | str | timedelta) -> float:
    """Return a duration in seconds. Raises ValueError for one without an end, and for what is none."""
    found = seconds(value)
    if math.isinf(found):
        raise ValueError('"never" is not accepted here; a duration such as "5m" is')
    return found


def checked_prefix(value: Any) -> str:
    """Return *value*, which keys may begin with. Raises ValueError for what they may not."""
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= 64
        or not value.isascii()
        or not value.isprintable()
    ):
        raise ValueError(f"{value!r} is no prefix; 1 to 64 printable characters of ASCII are accepted")
    if "#" in value or "|" in value:
        raise ValueError(f'{value!r} is no prefix: "#" and "|" part what follows it')
    return value
