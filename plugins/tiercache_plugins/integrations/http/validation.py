"""Conditional requests, of clients and of the cache itself (RFC 9110, 13; RFC 9111, 4.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from tiercache_plugins.integrations.http.asked import CONDITIONS, Asked
from tiercache_plugins.integrations.http.fields import Headers, entity_tags, http_date, joined, weakly_equal
from tiercache_plugins.integrations.http.stored import OWN_TAG, Stored
from tiercache_plugins.integrations.http.storing import HOP

KEPT_BODY: Final = frozenset(
    {b"content-encoding", b"content-length", b"content-md5", b"content-range", b"etag"} | HOP
)
"""Fields that a 304 does not change: they describe the stored body (RFC 9111, 3.2)."""
NOT_MODIFIED: Final = frozenset(
    {b"content-encoding", b"content-language", b"content-length", b"content-range", b"content-type"}
)
"""Fields of a response that its 304 leaves out (RFC 9110, 15.4.5)."""


def made_tag(body: bytes) -> bytes:
    """Return an entity tag for *body*. Weak, because what encodes responses later keeps it as it is."""
    return b'W/"' + hashlib.sha256(body).hexdigest()[:32].encode("ascii") + b'"'


def unchanged(asked: Asked, headers: Headers, received: float, now: float) -> bool:
    """Whether the client holds the response with *headers* already, so that a 304 is the answer."""
    headers = list(headers)
    if (wanted := asked.field("if-none-match")) is not None:
        tag = joined(headers, b"etag")
        if tag is None:
            return False
        tags = entity_tags(wanted)
        if tags is None:
            # No entity tags, but maybe the very text that was sent out as one.
            return wanted.strip() == tag.strip()
        return tags == ["*"] or any(weakly_equal(one, tag.strip()) for one in tags)
    if (since := asked.field("if-modified-since")) is not None:
        limit = http_date(since, now)
        text = joined(headers, b"last-modified")
        changed = http_date(text, now) if text is not None else None
        if limit is None or (text is not None and changed is None):
            return False
        if changed is None:
            # Without a date of change, the date of the response is one (RFC 9111, 4.3.2).
            changed = http_date(joined(headers, b"date") or "", now) or received
        return changed <= limit
    return False


def conditions(stored: Stored) -> list[tuple[bytes, bytes]]:
    """Return the fields that ask the application whether *stored* still holds; none where it can't tell."""
    found = []
    if not stored.flags & OWN_TAG and (tag := stored.first(b"etag")):
        found.append((b"if-none-match", tag.encode("latin-1")))
    if changed := stored.first(b"last-modified"):
        found.append((b"if-modified-since", changed.encode("latin-1")))
    return found


def asking(headers: Headers, mine: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the fields of a request with the cache's conditions in place of the client's."""
    return [pair for pair in headers if pair[0].lower() not in CONDITIONS] + list(mine)


def updated(stored: Stored, news: Headers) -> tuple[tuple[bytes, bytes], ...]:
    """Return the fields of *stored* as the fields of a 304 change them."""
    news = [(name.lower(), value) for name, value in news if name.lower() not in KEPT_BODY]
    names = {name for name, _ in news}
    return (*(pair for pair in stored.headers if pair[0].lower() not in names), *news)
