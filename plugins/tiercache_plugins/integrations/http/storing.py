"""May a response be stored, and for how long (RFC 9111, 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tiercache_plugins.integrations.http.asked import Asked
from tiercache_plugins.integrations.http.fields import Directives, Headers, is_token, joined, members
from tiercache_plugins.integrations.http.freshness import Life, control, initial_age, lifetime
from tiercache_plugins.integrations.http.settings import HttpSettings
from tiercache_plugins.integrations.http.stored import IMPLICIT, PERSONAL, STRICT, VALIDATE

UNDERSTOOD: Final = frozenset(
    {200, 203, 204, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 410, 414, 500, 501, 502, 503, 504}
)
"""Status codes that must-understand lets pass."""
ASSUMED: Final = frozenset({200, 203, 204, 301, 308})
"""Status codes of responses that are taken to be fresh for a while though they don't say so."""
HOP: Final = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info",
        b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
"""Fields that concern one connection, and are never stored."""
STRICTLY: Final = ("must-revalidate", "proxy-revalidate", "s-maxage")
"""Directives by which a response is never used stale; only the first concerns private caches."""
MOST_VARIED: Final = 20
"""Names in Vary beyond which a response is not stored."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an endpoint says about its responses; the defaults are those of one that says nothing."""

    ttl: float | None = None
    """Freshness of responses that state none."""
    vary: tuple[str, ...] = ()
    """Fields, and cookies as "cookie:NAME", that the response depends on."""
    whose: tuple[str, ...] = ()
    """Those that tell whose the response is."""
    public: bool = False
    """Whether it is the same for everybody, whatever credentials they show."""
    store: bool = True
    """False: never stored."""


@dataclass(frozen=True, slots=True)
class Storable:
    """A response that may be stored, and what is to be known about it then."""

    vary: tuple[str, ...]
    age: float
    lifetime: float
    flags: int
    revalidate: float
    error: float
    dropped: frozenset[bytes]
    """Fields that must not be stored with it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A response that may not be stored."""

    why: str
    lasting: bool = True
    """Whether the next one will be the same, so that nobody need wait for it."""


def may_store(
    asked: Asked,
    status: int,
    headers: Headers,
    terms: Terms,
    settings: HttpSettings,
    *,
    received: float,
    delay: float = 0.0,
) -> Storable | Refused:
    """Judge the response to *asked* by its status and its header section."""
    headers = [(name.lower(), value) for name, value in headers]
    directives, targeted = control(headers, settings.targeted, settings.name)
    vary = _vary(asked, headers, terms)
    if refused := _refusal(asked, status, headers, directives, terms, settings):
        return refused
    if vary is None:
        return Refused("vary")
    life = lifetime(
        status, headers, directives, received, targeted=targeted,
        assumed=_assumed(status, directives, terms, settings), shared=settings.shared,
        estimate=settings.estimate,
    )  # fmt: skip
    if not life.stated and _personal(asked, directives, terms):
        return Refused("credentials")
    age = initial_age(headers, received, delay)
    if age is None:
        life, age = Life(0.0, stated=True), 0.0
    listed = directives.text("no-cache")
    no_cache = "no-cache" in directives and listed is None
    if (life.seconds <= age or no_cache) and not (
        joined(headers, b"etag") or joined(headers, b"last-modified")
    ):
        return Refused("stale")
    strict = no_cache or any(name in directives for name in (STRICTLY if settings.shared else STRICTLY[:1]))
    flags = VALIDATE * no_cache | STRICT * strict
    flags |= IMPLICIT * (not life.stated and not terms.public and not terms.whose)
    flags |= PERSONAL * bool(terms.whose)
    error = directives.delta("stale-if-error")
    return Storable(
        vary=vary,
        age=age,
        lifetime=life.seconds,
        flags=flags,
        revalidate=0.0 if strict else float(directives.delta("stale-while-revalidate") or 0),
        error=0.0 if strict else settings.stale_if_error if error is None else float(error),
        dropped=_dropped(headers, listed),
    )


def _refusal(
    asked: Asked,
    status: int,
    headers: Headers,
    directives: Directives,
    terms: Terms,
    settings: HttpSettings,
) -> Refused | None:
    """Return why a response must not be stored, whatever its freshness; None where nothing forbids it."""
    names = {name for name, _ in headers}
    if not terms.store:
        return Refused("endpoint")
    if status < 200 or status in {206, 304}:
        return Refused(f"status {status}", lasting=False)
    understood = status in UNDERSTOOD
    if "must-understand" in directives and not understood:
        return Refused("must-understand")
    if "no-store" in directives and not ("must-understand" in directives and understood):
        return Refused("no-store")
    if settings.shared and "private" in directives:
        return Refused("private")
    if names & {b"set-cookie", b"set-cookie2"} and not settings.store_cookies:
        return Refused("set-cookie", lasting=False)
    if terms.whose and not asked.names(terms.whose):
        return Refused("nobody")
    permitted = (
        not settings.shared
        or terms.public
        or terms.whose
        or any(name in directives for name in ("public", "s-maxage", "must-revalidate"))
    )
    if "authorization" in asked.fields and not permitted:
        return Refused("authorization")
    if (joined(headers, b"content-type") or "").lower().startswith("text/event-stream"):
        return Refused("event stream")
    return None


def _assumed(status: int, directives: Directives, terms: Terms, settings: HttpSettings) -> float | None:
    if status not in ASSUMED or "no-cache" in directives:
        return None
    return settings.ttl if terms.ttl is None else terms.ttl


def _personal(asked: Asked, directives: Directives, terms: Terms) -> bool:
    """Whether a response that states no freshness may be meant for one user."""
    return bool(asked.credentials) and not (terms.public or terms.whose or "public" in directives)


def _vary(asked: Asked, headers: Headers, terms: Terms) -> tuple[str, ...] | None:
    """Return the names that a response varies by, sorted; None where it can't be told apart by any."""
    text = joined(headers, b"vary")
    names = {name.lower() for name in members(text)} if text else set()
    if not names and text and text.strip(", \t"):
        return None
    if "*" in names or not all(map(is_token, names)):
        return None
    names |= {*terms.vary, *terms.whose, *asked.keyed}
    return None if len(names) > MOST_VARIED else tuple(sorted(names))


def _dropped(headers: Headers, no_cache: str | None) -> frozenset[bytes]:
    listed = {name.lower().encode("latin-1") for name in members(no_cache or "")}
    listed |= {name.lower().encode("latin-1") for name in members(joined(headers, b"connection") or "")}
    # The age is kept apart, and said anew each time.
    return HOP | frozenset(listed) | {b"age"}
