"""A page in the browser that shows what a cache does: an ASGI application without dependencies."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final
from urllib.parse import quote

from tiercache.cache import Cache
from tiercache.dashboard.door import Door, Refused
from tiercache.dashboard.figures import Figures
from tiercache.dashboard.history import History
from tiercache.dashboard.page import Page
from tiercache.dashboard.stream import Stream
from tiercache.units import seconds

__all__ = ["Dashboard"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LIFE: Final = 10.0
"""Seconds after which a stream ends, and the browser resumes it: a server that shuts down waits for open
responses, and is not to wait for long.
"""
FULL: Final = 5
"""Seconds after which a client that found no place may ask again."""
PROBE: Final = "tiercache:probe"
"""The key that is asked for where nothing else speaks to the tiers."""

_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Dashboard:
    """The dashboard of *cache* as an ASGI application, to be served alone or mounted in another one:
    `app.mount("/cache", Dashboard(cache))`.

    It shows what this process counted; of several workers, the one that answers. It changes nothing, and
    knows keys by their declared patterns alone. Nothing is looked at while nobody looks.

    Who reaches the application reaches the page, unless it is guarded there, or *token* is given: then that
    is asked for, as `Authorization: Bearer TOKEN`, or once as `?token=TOKEN`, which becomes a cookie.
    *hosts* are the names under which it may be asked for (None: all). *every* is the time between two looks;
    it grows by itself so that they take no more than a hundredth of the time. At most *clients* browsers are
    told of changes at once. *alone* is for a process that serves nothing but this page: the tiers are asked
    at each look whether they are there, and what only applications can count is left out.

    Raises ValueError for a token of fewer than 16 characters, for an interval of zero or less, and where no
    client is allowed.
    """

    __slots__ = ("_cache", "_door", "_figures", "_history", "_page", "_shut", "_streams", "clients")

    def __init__(
        self,
        cache: Cache,
        *,
        token: str | None = None,
        hosts: Collection[str] | None = None,
        every: float | str = 1.0,
        clients: int = 16,
        alone: bool = False,
    ) -> None:
        if clients < 1:
            raise ValueError(f"clients must be at least 1, not {clients}")
        self.clients = clients
        """How many browsers are told of changes at once, at most."""
        self._cache = cache
        self._door = Door(token, hosts)
        self._figures = Figures(alone=alone)
        self._history = History(cache.stats, self._figures, seconds(every), self._probe if alone else None)
        self._page = Page(self._figures, secrets.token_hex(4))
        self._shut = False
        self._streams = 0

    @property
    def looking(self) -> int:
        """How many browsers are told of changes now."""
        return self._streams

    def close(self) -> None:
        """Let streams end at their next turn, and accept no others. The cache stays as it is."""
        self._shut = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            try:
                await self._answer(scope, receive, send)
            except Refused as refused:
                body = f"{refused}\n".encode()
                await _reply(scope, send, refused.status, body, *refused.headers)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in {"GET", "HEAD"}:
            raise Refused(
                405, "the dashboard only shows; GET and HEAD are accepted", (b"allow", b"GET, HEAD")
            )
        admitted = self._door.admit(scope)
        path: str = scope["path"]
        root = scope.get("root_path", "")
        # Whether a mounting application leaves its part in the path is its own affair.
        local = path[len(root) :] if root and path.startswith(root) else path
        if admitted:
            await _reply(scope, send, 303, b"", (b"location", _here(path)), (b"set-cookie", admitted))
        elif local == "":
            await _reply(scope, send, 308, b"", (b"location", _here(path) + b"/"))
        elif local == "/":
            await self._show(scope, send)
        elif local == "/events":
            await self._tell(scope, receive, send)
        else:
            raise Refused(404, "there is nothing here; the page is at the root of the dashboard")

    async def _show(self, scope: Scope, send: Send) -> None:
        html = self._page.render(await self._history.current(), self._history, open=self._open)
        await _reply(
            scope, send, 200, html.encode(), (b"content-security-policy", self._page.policy.encode()),
            kind=b"text/html; charset=utf-8",
        )  # fmt: skip

    async def _tell(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._open:
            raise Refused(503, "the cache is not open", (b"retry-after", str(FULL).encode()))
        if self._streams >= self.clients:
            told = f"{self.clients} browsers look already, and no more are told of changes"
            raise Refused(503, told, (b"retry-after", str(FULL).encode()))
        headers = [*_HEADERS, (b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        self._streams += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            stream = Stream(self._history, self._page, LIFE, lambda: self._open)
            await stream.run(_header(scope, b"last-event-id"), receive, send)
        finally:
            self._streams -= 1

    @property
    def _open(self) -> bool:
        return self._cache.is_open and not self._shut

    async def _probe(self) -> None:
        if self._cache.is_open:
            await self._cache.exists(PROBE)

    def __repr__(self) -> str:
        return f"<Dashboard of {self._cache!r}, {self._streams} of {self.clients} looking>"


def _here(path: str) -> bytes:
    """Return a location that leads to *path* from itself, also behind what takes away a part of it."""
    return f"./{quote(path.rpartition('/')[2], safe='')}".encode()


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _reply(
    scope: Scope,
    send: Send,
    status: int,
    body: bytes,
    *headers: tuple[bytes, bytes],
    kind: bytes = b"text/plain; charset=utf-8",
) -> None:
    told = [*_HEADERS, (b"content-type", kind), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
