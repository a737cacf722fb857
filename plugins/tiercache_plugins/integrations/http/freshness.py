"""How old a response is, and how long it is fresh (RFC 9111, 4.2)."""

from __future__ import annotations

from typing import Final, NamedTuple

from tiercache_plugins.integrations.http.fields import (
    Directives,
    Headers,
    http_date,
    is_token,
    joined,
    lines,
    members,
)

ESTIMATED: Final = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
"""Status codes whose freshness may be estimated (RFC 9110, 15.1)."""
SHARE: Final = 0.1
"""The share of the time since the last change that an estimate takes (RFC 9111, 4.2.2)."""
SURROGATE: Final = "surrogate-control"
"""The targeted field that is older than the others, and has a syntax of its own."""
LONGEST_ESTIMATE: Final = 86_400.0
"""Seconds that an estimate never exceeds."""


class Life(NamedTuple):
    """How long a response is fresh, and who says so."""

    seconds: float
    stated: bool
    """Whether the response says it; otherwise it is an estimate, or nothing."""


def control(headers: Headers, targeted: tuple[str, ...], target: str | None) -> tuple[Directives, bool]:
    """Return what governs this cache: the first targeted field that can be read, else Cache-Control.

    Also return whether it was a targeted one: then Expires counts as little as Cache-Control (RFC 9213, 2.2).
    *target* is what this cache is called where directives name whom they are for.
    """
    headers = list(headers)
    for name in targeted:
        text = joined(headers, name.encode("latin-1"))
        if text is None:
            continue
        found = _surrogate(text, target) if name == SURROGATE else _targeted(text)
        if found:
            return found, True
    return Directives(joined(headers, b"cache-control") or ""), False


def _targeted(text: str) -> Directives | None:
    """Return the directives of a structured dictionary; None where it is none and has to be ignored."""
    parts = members(text)
    if not parts:
        return None
    for part in parts:
        name, _, value = part.partition("=")
        if not is_token(name) or name != name.lower() or value.startswith(" "):
            return None
    return Directives(text)


def _surrogate(text: str, target: str | None) -> Directives:
    """Return the directives of Surrogate-Control that are for *target*, or for nobody in particular."""
    kept = []
    for part in members(text):
        directive, _, whom = part.partition(";")
        if not whom.strip() or whom.strip() == target:
            kept.append(directive)
    return Directives(", ".join(kept))


def initial_age(headers: Headers, received: float, delay: float) -> float | None:
    """Return the age of a response when it arrived; None where its Age can't be read: then it is stale.

    *delay* is how long the request took. RFC 9111, 4.2.3. Several ages contradict each other, so they are
    unreadable too.
    """
    headers = list(headers)
    ages = lines(headers, b"age")
    if len(ages) > 1 or (ages and not (ages[0].strip().isascii() and ages[0].strip().isdigit())):
        return None
    stated = min(int(ages[0].strip()[:12]), 2**31) if ages else 0
    date = http_date(joined(headers, b"date") or "", received)
    apparent = max(received - date, 0.0) if date is not None else 0.0
    # A date in whole seconds is up to a second early, which is no age.
    return max(apparent if apparent >= 1.0 else 0.0, stated + max(delay, 0.0) if ages else 0.0)


def lifetime(
    status: int,
    headers: Headers,
    directives: Directives,
    received: float,
    *,
    targeted: bool,
    assumed: float | None,
    shared: bool = True,
    estimate: bool = True,
) -> Life:
    """Return how long a response is fresh, in a cache that is *shared* or in a private one.

    *assumed* is how long one is that says nothing; None: then it is estimated from Last-Modified, if
    *estimate* allows that.
    """
    headers = list(headers)
    for name in ("s-maxage", "max-age") if shared else ("max-age",):
        if (delta := directives.delta(name)) is not None:
            return Life(float(delta), stated=True)
    dates = lines(headers, b"date")
    date = http_date(dates[0], received) if len(dates) == 1 else None
    if not targeted and (expires := lines(headers, b"expires")):
        until = http_date(expires[0], received) if len(expires) == 1 else None
        since = received if date is None else date
        return Life(0.0 if until is None else max(until - since, 0.0), stated=True)
    if assumed is not None:
        return Life(assumed, stated=False)
    if estimate and (status in ESTIMATED or "public" in directives):
        changed = http_date(joined(headers, b"last-modified") or "", received)
        if changed is not None:
            return Life(
                min(max((received if date is None else date) - changed, 0.0) * SHARE, LONGEST_ESTIMATE),
                stated=False,
            )
    return Life(0.0, stated=False)
