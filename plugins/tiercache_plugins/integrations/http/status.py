"""The field Cache-Status (RFC 9211): what the cache did with a request."""

from __future__ import annotations

from tiercache_plugins.integrations.http.fields import is_token


def cache_status(
    name: str,
    *,
    hit: bool = False,
    forwarded: str | None = None,
    answered: int | None = None,
    ttl: float | None = None,
    stored: bool = False,
    collapsed: bool = False,
    detail: str | None = None,
) -> bytes:
    """Return the member that the cache *name* adds. *forwarded* is why the application was asked."""
    parts = [name if is_token(name) else f'"{name}"']
    if hit:
        parts.append("hit")
    if forwarded is not None:
        parts.append(f"fwd={forwarded}")
    if answered is not None:
        parts.append(f"fwd-status={answered}")
    if ttl is not None:
        parts.append(f"ttl={int(ttl)}")
    if stored:
        parts.append("stored")
    if collapsed:
        parts.append("collapsed")
    if detail is not None:
        parts.append("detail=" + (detail if is_token(detail) else f'"{detail}"'))
    return "; ".join(parts).encode("latin-1", "replace")
