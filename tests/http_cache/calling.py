"""An origin that httpx talks to without a socket, and clients with a cache before it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from http_cache.talking import PIPELINE, cache_of
from tiercache import Cache
from tiercache.testing import FakeClock
from tiercache_plugins.integrations.http.outgoing import AsyncCacheTransport, CacheTransport

URL = "http://api.example/a"


class Parts(httpx.AsyncByteStream, httpx.SyncByteStream):
    """A body in parts; *fails* after them if it is told to, and waits at *gate* before the second."""

    def __init__(self, parts: list[bytes], fails: BaseException | None, origin: Remote) -> None:
        self.parts = parts
        self.fails = fails
        self.origin = origin

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            self.origin.read += 1
            yield part
        if self.fails is not None:
            raise self.fails

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number, part in enumerate(self.parts):
            if number:
                await self.origin.middle.wait()
            self.origin.read += 1
            yield part
        if self.fails is not None:
            raise self.fails

    def close(self) -> None:
        self.origin.closed += 1

    async def aclose(self) -> None:
        self.origin.closed += 1


@dataclass
class Remote(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """A transport that answers what `say` was told, with the number of the call as body."""

    asked: list[httpx.Request] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)
    status: int = 200
    body: list[bytes] | Callable[[httpx.Request], bytes] | None = None
    error: BaseException | None = None
    """Raised instead of an answer."""
    breaks: BaseException | None = None
    """Raised at the end of the body."""
    read: int = 0
    closed: int = 0

    def __post_init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.middle = asyncio.Event()
        self.middle.set()

    def say(self, *headers: tuple[str, str], status: int = 200, body: Any = None) -> None:
        self.headers, self.status = list(headers), status
        if body is not None:
            self.body = body

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        number = len(self.asked) + 1
        self.asked.append(request)
        await self.gate.wait()
        return self.answer(request, number)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self.answer(request, len(self.asked))

    def answer(self, request: httpx.Request, number: int) -> httpx.Response:
        if self.error is not None:
            raise self.error
        parts = self.body(request) if callable(self.body) else self.body
        parts = [str(number).encode()] if parts is None else [parts] if isinstance(parts, bytes) else parts
        return httpx.Response(
            self.status,
            headers=self.headers,
            stream=Parts([] if self.status == 304 else parts, self.breaks, self),
        )


@dataclass
class Caller:
    """A client, the cache before its origin, and a clock that stands still."""

    origin: Remote
    client: httpx.AsyncClient
    transport: AsyncCacheTransport
    cache: Cache
    clock: FakeClock

    async def get(self, url: str = URL, **headers: str) -> httpx.Response:
        return await self.client.get(url, headers=named(headers))

    def another(self, **options: Any) -> httpx.AsyncClient:
        """Return a client of the same cache and origin with a transport of its own."""
        return httpx.AsyncClient(
            transport=AsyncCacheTransport(self.cache, self.origin, clock=self.clock, **options)
        )


def named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def told(response: httpx.Response) -> Any:
    return response.extensions["tiercache"]


@contextlib.asynccontextmanager
async def calling(pipeline: Any = PIPELINE, **options: Any) -> AsyncIterator[Caller]:
    clock, origin = FakeClock(), Remote()
    async with cache_of(pipeline, clock) as cache:
        transport = AsyncCacheTransport(cache, origin, clock=clock, **options)
        async with httpx.AsyncClient(transport=transport) as client:
            yield Caller(origin, client, transport, cache, clock)


@contextlib.contextmanager
def calling_from_threads(**options: Any) -> Iterator[tuple[httpx.Client, Remote, CacheTransport]]:
    with Cache.open_sync(PIPELINE) as cache:
        origin = Remote()
        transport = CacheTransport(cache, origin, **options)
        with httpx.Client(transport=transport) as client:
            yield client, origin, transport
