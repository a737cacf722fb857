"""The field Cache-Status (RFC 9211): what the cache did with a request."""

from __future__ import annotations

from dataclasses import dataclass

from tiercache_plugins.integrations.http.fields import is_token


@dataclass(frozen=True, slots=True)
class Handling:
    """What a cache did with one request."""

    hit: bool = False
    """Whether a stored response was the answer, and nobody was asked."""
    forwarded: str | None = None
    """Why somebody was asked: "uri-miss", "vary-miss", "stale", "request", "method" or "bypass"."""
    answered: int | None = None
    """The status code that the request was answered by then."""
    ttl: float | None = None
    """For how many seconds the answer is fresh; less than zero where it is stale."""
    stored: bool = False
    """Whether what was answered is stored, provided that it comes whole."""
    collapsed: bool = False
    """Whether the answer is that of another request, made at the same time."""
    detail: str | None = None
    """What else is to be said."""

    @property
    def stale(self) -> bool:
        """Whether the answer was stale when it was given."""
        return self.ttl is not None and self.ttl < 0

    def member(self, name: str) -> bytes:
        """Return the member of the field that the cache *name* adds."""
        parts = [name if is_token(name) else f'"{name}"']
        if self.hit:
            parts.append("hit")
        if self.forwarded is not None:
            parts.append(f"fwd={self.forwarded}")
        if self.answered is not None:
            parts.append(f"fwd-status={self.answered}")
        if self.ttl is not None:
            parts.append(f"ttl={int(self.ttl)}")
        if self.stored:
            parts.append("stored")
        if self.collapsed:
            parts.append("collapsed")
        if self.detail is not None:
            parts.append("detail=" + (self.detail if is_token(self.detail) else f'"{self.detail}"'))
        return "; ".join(parts).encode("latin-1", "replace")
