"""The cache as a transport of `httpx.Client`, for any number of threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final, Self

import httpx

from tiercache import CacheClosed, SyncCache
from tiercache_plugins.integrations.http.answering import Message, Receive, Send
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

LOOK: Final = 1.0
"""Seconds after which a thread that waits looks whether the loop still runs."""


class CacheTransport(httpx.BaseTransport):
    """Answers the calls of a client without an event loop from a cache, as `AsyncCacheTransport` does.

    *source* is what `Cache.open_sync` gives, or a `Cache` that is open on its loop, or has one as `cache`;
    the calls are served on that loop, and *transport* is used by threads of its own, one for each call that
    is sent. Where the cache is not open, calls are sent uncached, and counted as troubles. The cache is left
    open at the end. All else is as `AsyncCacheTransport` has it.

    Raises ValueError for durations, sizes and a prefix that are none.
    """

    def __init__(
        self,
        source: Any,
        transport: httpx.BaseTransport | None = None,
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
        """What the responses are counted by. Its coroutines are for the cache's loop: `purge` is their like
        for threads."""
        self._transport = httpx.HTTPTransport() if transport is None else transport
        self._partition = partition
        self._calls: Calls | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer *request*. Raises what the transport raises; RuntimeError on the thread of the loop."""
        if not cacheable(request):
            return self._transport.handle_request(request)
        cache = self.http.cache
        if not cache.is_open:
            self.http.trouble("a call was sent uncached, because the cache is not open")
            return self._transport.handle_request(request)
        scope = scope_of(request, self._partition)

        async def begin() -> Call:
            if self._calls is None:
                self._calls = Calls(self._ask, self.http)
            return await self._calls.begin(scope)

        call = cache.sync.run(begin)
        return call.response(_Body(call, cache.sync))

    def purge(self, url: str | None = None, *, prefix: str | None = None) -> None:
        """Drop stored responses, as `HttpCache.purge`."""
        self.http.cache.sync.run(lambda: self.http.purge(url, prefix=prefix))

    def close(self) -> None:
        """End what is under way, and close the transport."""
        calls, self._calls = self._calls, None
        try:
            if calls is not None and self.http.cache.is_open:
                self.http.cache.sync.run(calls.close)
        finally:
            self._transport.close()

    def __enter__(self) -> Self:
        self._transport.__enter__()
        return self

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        lane = _Lane(self._transport, scope)
        # What the transport calls back, such as an application in this process, is still within this call.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(lane.work,), name="tiercache-http", daemon=True).start()
        try:
            while (message := await lane.messages.get()) is not None:
                if isinstance(message, BaseException):
                    raise message
                await send(message)
                lane.go_on()
        finally:
            lane.leave()


class _Lane:
    """One call of a transport, in a thread of its own, which opens the response, reads and closes it."""

    def __init__(self, transport: httpx.BaseTransport, scope: Scope) -> None:
        self._transport = transport
        self._scope = scope
        self._loop = asyncio.get_running_loop()
        # One message on its way, so that the transport is read no faster than the client reads.
        self._room = threading.Semaphore(1)
        self._left = False
        self.messages: asyncio.Queue[Message | BaseException | None] = asyncio.Queue()

    def work(self) -> None:
        """Send the call, and tell what comes."""
        try:
            response = self._transport.handle_request(forwarded(self._scope))
            try:
                self._tell(start_of(self._scope, response))
                assert isinstance(response.stream, httpx.SyncByteStream)
                for part in response.stream:
                    if not self._tell({"type": "http.response.body", "body": part, "more_body": True}):
                        return
                self._tell({"type": "http.response.body", "body": b""})
            finally:
                response.close()
            self._tell(None)
        except BaseException as error:  # noqa: BLE001 - it is raised where the call is served
            self._tell(error)

    def go_on(self) -> None:
        """Let the thread tell the next."""
        self._room.release()

    def leave(self) -> None:
        """Let the thread come to its end: nobody listens any more."""
        self._left = True
        self._room.release()

    def _tell(self, message: Message | BaseException | None) -> bool:
        """Hand *message* over, after the one before was taken; return whether somebody listens."""
        while not self._left and not self._room.acquire(timeout=LOOK):
            self._left = not self._loop.is_running()
        if self._left:
            return False
        try:
            self._loop.call_soon_threadsafe(self.messages.put_nowait, message)
        except RuntimeError:
            # The loop was closed.
            self._left = True
        return not self._left


class _Body(httpx.SyncByteStream):
    """The body of a call, as it comes."""

    def __init__(self, call: Call, face: SyncCache) -> None:
        self._call = call
        self._face = face

    def __iter__(self) -> Iterator[bytes]:
        while (part := self._face.run(self._call.next)) is not None:
            yield part

    def close(self) -> None:
        # With the cache its loop ended, and with that the call.
        with contextlib.suppress(CacheClosed):
            self._face.run(self._call.aclose)
