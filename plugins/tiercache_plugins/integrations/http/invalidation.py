"""What a change makes out of date (RFC 9111, 4.4)."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from tiercache_plugins.integrations.http.asked import Asked, can_be_keyed, origin_of, target_key
from tiercache_plugins.integrations.http.fields import LONGEST, Headers, lines


def outdated(asked: Asked, status: int, headers: Headers) -> list[str]:
    """Return the keys of what the answer to an unsafe request makes out of date; none after an error.

    That is the target, and what Location and Content-Location name on the same host.
    """
    if not 200 <= status < 400 or asked.key is None:
        return []
    assert asked.origin is not None
    headers = list(headers)
    keys = [asked.key]
    for name in (b"location", b"content-location"):
        for line in lines(headers, name):
            key = _key(line, f"{asked.origin}{asked.url}", asked.origin, asked.settings.prefix)
            if key is not None:
                keys.append(key)
    return list(dict.fromkeys(keys))


def _key(reference: str, base: str, origin: str, prefix: str) -> str | None:
    if len(reference) > LONGEST:
        return None
    try:
        parts = urlsplit(urljoin(base, reference.strip()))
        if origin_of(parts.scheme, parts.netloc.rpartition("@")[2]) != origin:
            return None
    except ValueError:
        return None
    path = parts.path or "/"
    return target_key(prefix, path, parts.query, origin) if can_be_keyed(path, parts.query) else None
