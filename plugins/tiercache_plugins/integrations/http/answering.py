"""Answers from stored responses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from tiercache_plugins.integrations.http.asked import Asked
from tiercache_plugins.integrations.http.ranges import part
from tiercache_plugins.integrations.http.stored import PERSONAL, Stored
from tiercache_plugins.integrations.http.validation import NOT_MODIFIED, unchanged

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]

BODILESS: Final = frozenset({204, 304})
"""Status codes of responses that have no body, and no length either."""


async def answer(
    asked: Asked, vary: tuple[str, ...], stored: Stored, status: bytes | None, now: float, send: Send
) -> None:
    """Answer *asked* with *stored*: whole, without its body for HEAD, a part of it, or by a 304.

    *status* is the member that is added to Cache-Status.
    """
    headers = list(stored.headers)
    headers.append((b"age", str(int(stored.aged(now))).encode("ascii")))
    headers += added(vary, stored, status)
    code, body = stored.status, stored.body
    if code == 200 and unchanged(asked, stored.headers, stored.received, now):
        code, body = 304, b""
        headers = [pair for pair in headers if pair[0].lower() not in NOT_MODIFIED]
    elif code == 200 and asked.method == "GET" and (found := part(asked, stored)) is not None:
        code, body, extra = found
        replaced = {name for name, _ in extra}
        headers = [pair for pair in headers if pair[0].lower() not in replaced] + extra
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if asked.method == "HEAD" else body})


def added(vary: tuple[str, ...], stored: Stored, status: bytes | None) -> list[tuple[bytes, bytes]]:
    """Return the fields that an answer with *stored* has beside its own."""
    return [*personal(vary, stored.flags, stored.first(b"cache-control")), *cache_status_field(status)]


def personal(vary: tuple[str, ...], flags: int, control: str | None) -> list[tuple[bytes, bytes]]:
    """Return what tells caches further on that a response is one user's."""
    if not flags & PERSONAL:
        return []
    names = sorted({"cookie" if name.startswith("cookie:") else name for name in vary})
    found = [(b"vary", ", ".join(names).encode("latin-1"))]
    return found if control is not None else [*found, (b"cache-control", b"private")]


def cache_status_field(status: bytes | None) -> list[tuple[bytes, bytes]]:
    """Return the field that carries *status*, or nothing."""
    return [] if status is None else [(b"cache-status", status)]


async def refuse_unasked(status: bytes | None, send: Send) -> None:
    """Answer a request that asked for a stored response alone, where there is none (RFC 9111, 5.2.1.7)."""
    headers = [(b"content-length", b"0"), *cache_status_field(status)]
    await send({"type": "http.response.start", "status": 504, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
