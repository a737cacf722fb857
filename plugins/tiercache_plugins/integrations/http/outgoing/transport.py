"""The cache as a transport of `httpx.AsyncClient`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, Self

import httpx

from tiercache_plugins.integrations.http.answering import Receive, Send
from tiercache_plugins.integrations.http.asked import Scope
from tiercache_plugins.integrations.http.outgoing.calls import (
    Call,
    Calls,
    Partition,
    cacheable,
    forwarded,
    scope_of,
    start_of,
)
from tiercache_plugins.integrations.http.outgoing.options import DEFAULTS, outgoing_settings
from tiercache_plugins.integrations.http.web import HttpCache


class AsyncCacheTransport(httpx.AsyncBaseTransport):
    """Answers the calls of a client from a cache, and sends the others by *transport*.

    *source* is a `Cache`, or anything that has one as `cache`; where it is not open at the first call, it is
    opened then, and closed with this transport. *transport* is any of httpx, an `httpx.AsyncHTTPTransport`
    where none is given; it is closed with this one.

    The cache is private: it stores what is meant for one user, and what was sent to one set of credentials
    (`Authorization`, `Cookie`, whatever is called a token, a key or a user) is never found by another.
    *partition* tells users apart by other means, and instead: a name, or a function of the request that gives
    one. Say it where credentials change from call to call though the user does not, and where users differ by
    what requests don't show, such as certificates. With *shared* the cache obeys what is said to shared
    caches, and shows anybody what RFC 9111 lets it; a *partition* keeps users apart there as well.

    *default_ttl* is how long a response is fresh that states nothing; None leaves nothing to guesses. The
    other options are described at `HttpSettings`. *clock* gives seconds since the epoch, for tests.

    Each response tells by `extensions["tiercache"]`, a `Handling`, and by the field Cache-Status what became
    of its request. Errors of the transport reach the caller as they are; errors of the cache are counted,
    and the transport answers. It needs asyncio.

    Raises ValueError for durations, sizes and a prefix that are none.
    """

    def __init__(
        self,
        source: Any,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        partition: Partition = None,
        shared: bool = DEFAULTS.shared,
        default_ttl: float | str | timedelta | None = None,
        prefix: str = DEFAULTS.prefix,
        route: str | None = None,
        max_body: int | str = DEFAULTS.max_body,
        keep: float | str | timedelta = DEFAULTS.keep,
        stale_if_error: float | str | timedelta | None = None,
        store_cookies: bool = DEFAULTS.store_cookies,
        name: str | None = DEFAULTS.name,
        clock: Callable[[], float] = time.time,
    ) -> None:
        settings = outgoing_settings(
            shared=shared, default_ttl=default_ttl, prefix=prefix, route=route, max_body=max_body, keep=keep,
            stale_if_error=stale_if_error, store_cookies=store_cookies, name=name,
        )  # fmt: skip
        self.http = HttpCache(source, settings, clock=clock)
        """What the responses are counted, and dropped, by."""
        self._transport = httpx.AsyncHTTPTransport() if transport is None else transport
        self._partition = partition
        self._calls = Calls(self._ask, self.http)
        self._ready = False
        self._starting: asyncio.Lock | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer *request*. Raises what the transport raises."""
        if not cacheable(request):
            return await self._transport.handle_async_request(request)
        if not self._ready:
            await self._make_ready()
        call = await self._calls.begin(scope_of(request, self._partition))
        return call.response(_Body(call))

    async def aclose(self) -> None:
        """End what is under way, close the transport, and the cache where this opened it."""
        self._ready = False
        try:
            await self._calls.close()
        finally:
            try:
                await self._transport.aclose()
            finally:
                await self.http.close()

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def _make_ready(self) -> None:
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if not self._ready:
                await self.http.start()
                self._ready = True

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        response = await self._transport.handle_async_request(forwarded(scope))
        try:
            await send(start_of(scope, response))
            assert isinstance(response.stream, httpx.AsyncByteStream)
            async for part in response.stream:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()


class _Body(httpx.AsyncByteStream):
    """The body of a call, as it comes."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (part := await self._call.next()) is not None:
            yield part

    async def aclose(self) -> None:
        await self._call.aclose()
