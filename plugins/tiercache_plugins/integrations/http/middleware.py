"""The cache as ASGI middleware."""

from __future__ import annotations

import asyncio

from tiercache_plugins.integrations.http.answering import Message, Receive, Send
from tiercache_plugins.integrations.http.asked import Asked, Scope
from tiercache_plugins.integrations.http.exchange import App
from tiercache_plugins.integrations.http.serving import Serving
from tiercache_plugins.integrations.http.web import HttpCache


class HttpCacheMiddleware:
    """Answers requests from *http*, and passes the others on to *app*.

    What goes wrong in the cache is counted and logged, and the application answers.
    """

    def __init__(self, app: App, http: HttpCache) -> None:
        self._app = app
        self._http = http
        self._serving = Serving(app, http)
        self._ready = False
        self._starting: asyncio.Lock | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            if not self._ready:
                await self._make_ready()
            await self._serving.answer(Asked(scope, self._http.settings), scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        first = await receive()
        try:
            await self._make_ready()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        waiting = [first]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        async def closing(message: Message) -> None:
            if message["type"] in {"lifespan.shutdown.complete", "lifespan.shutdown.failed"}:
                await self._end()
            await send(message)

        try:
            await self._app(scope, replay, closing)
        finally:
            await self._end()

    async def _make_ready(self) -> None:
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if not self._ready:
                self._http.check()
                await self._http.start()
                self._ready = True

    async def _end(self) -> None:
        self._ready = False
        await self._serving.close()
        await self._http.close()
