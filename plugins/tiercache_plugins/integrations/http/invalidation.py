"""What a change makes out of date (RFC 9111, 4.4)."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from tiercache_plugins.integrations.http.asked import Asked, can_be_keyed, origin_of
from tiercache_plugins.integrations.http.fields import LONGEST, Headers, lines


def outdated(asked: Asked, status: int, headers: Headers) -> list[str]:
    """Return the keys of what the answer to an unsafe request makes out of date; none after an error.

    That is the target, and what Location and Content-Location name on the same host.
    """
    if not 200 <= status < 400 or asked.key is None:
        return []
    headers = list(headers)
    keys = [asked.key]
    for name in (b"location", b"content-location"):
        for line in lines(headers, name):
            key = _key(line, asked)
            if key is not None:
                keys.append(key)
    return list(dict.fromkeys(keys))


def _key(reference: str, asked: Asked) -> str | None:
    if len(reference) > LONGEST:
        return None
    try:
        parts = urlsplit(urljoin(f"{asked.origin}{asked.url}", reference.strip()))
        if origin_of(parts.scheme, parts.netloc.rpartition("@")[2]) != asked.origin:
            return None
    except ValueError:
        return None
    path = parts.path or "/"
    return asked.key_of(path, parts.query) if can_be_keyed(path, parts.query) else None
