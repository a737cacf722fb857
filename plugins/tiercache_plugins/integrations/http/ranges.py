"""Parts of stored responses (RFC 9110, 14): one range of bytes; anything else is for the application."""

from __future__ import annotations

import re
from typing import Final

from tiercache_plugins.integrations.http.asked import Asked
from tiercache_plugins.integrations.http.stored import Stored

_ONE: Final = re.compile(r"bytes=(?:(\d{1,15})-(\d{1,15})?|-(\d{1,15}))", re.IGNORECASE)


def servable(asked: Asked) -> bool:
    """Whether the range that *asked* wants can be cut from a stored response."""
    return _ONE.fullmatch((asked.field("range") or "").strip()) is not None


def part(asked: Asked, stored: Stored) -> tuple[int, bytes, list[tuple[bytes, bytes]]] | None:
    """Return status, body and fields of the part that *asked* wants; None where it is to have the whole.

    If-Range is met by the same strong entity tag alone; a range that lies outside is answered by 416.
    """
    match = _ONE.fullmatch((asked.field("range") or "").strip())
    if match is None:
        return None
    if (condition := asked.field("if-range")) is not None:
        tag = (stored.first(b"etag") or "").strip()
        if condition.strip() != tag or not tag.startswith('"'):
            return None
    size = len(stored.body)
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(size - int(suffix), 0), size
        start = size if int(suffix) == 0 else start
    else:
        start, end = int(first), size if last is None else min(int(last) + 1, size)
        if last is not None and int(last) < start:
            return None
    if start >= size:
        return 416, b"", _fields(f"bytes */{size}", 0)
    return 206, stored.body[start:end], _fields(f"bytes {start}-{end - 1}/{size}", end - start)


def _fields(span: str, length: int) -> list[tuple[bytes, bytes]]:
    return [(b"content-range", span.encode("ascii")), (b"content-length", str(length).encode("ascii"))]
