"""May a stored response answer a request (RFC 9111, 4)."""

from __future__ import annotations

import enum

from tiercache_plugins.integrations.http.asked import Asked
from tiercache_plugins.integrations.http.stored import IMPLICIT, STRICT, VALIDATE, Stored


class Use(enum.Enum):
    """What a stored response is good for."""

    FRESH = "fresh"
    STALE = "stale"
    """The client takes it stale."""
    BEHIND = "behind"
    """It serves while a newer one is fetched behind it."""
    VALIDATE = "validate"
    """The application has to be asked."""
    NEVER = "never"
    """It is not for this request."""


def judge(asked: Asked, vary: tuple[str, ...], stored: Stored, now: float) -> Use:
    """Return what *stored*, which differs by *vary*, is good for."""
    if stored.flags & IMPLICIT and asked.credentials - set(vary):
        return Use.NEVER
    directives = asked.directives
    age = stored.aged(now)
    late = age - stored.lifetime
    if stored.flags & VALIDATE:
        return Use.VALIDATE
    if directives and asked.settings.heed_requests:
        if "no-cache" in directives:
            return Use.VALIDATE
        oldest, ahead = directives.delta("max-age"), directives.delta("min-fresh")
        if (oldest is not None and age > oldest) or (oldest == 0) or (ahead is not None and -late < ahead):
            return Use.VALIDATE
        if late >= 0 and "max-stale" in directives and not stored.flags & STRICT:
            most = directives.delta("max-stale") if directives.text("max-stale") is not None else None
            if most is None or late <= most:
                return Use.STALE
    if late < 0:
        return Use.FRESH
    if late < stored.revalidate:
        return Use.BEHIND
    return Use.VALIDATE


def may_stand_in(asked: Asked, vary: tuple[str, ...], stored: Stored, now: float) -> bool:
    """Whether *stored* may be used though the application failed (RFC 5861, 4)."""
    if judge(asked, vary, stored, now) is Use.NEVER or stored.flags & (STRICT | VALIDATE):
        return False
    late = stored.aged(now) - stored.lifetime
    wished = asked.directives.delta("stale-if-error") or 0
    return late < max(stored.error, float(wished))
