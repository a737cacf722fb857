"""An ASGI application in this process, one that is told what to answer, and what it takes to talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tiercache import Cache, Clock
from tiercache.cache.variants import variant
from tiercache.config.build import build
from tiercache.config.plan import Plan, plan
from tiercache.testing import FakeClock
from tiercache_plugins.integrations.http import HttpCache, HttpCacheMiddleware, HttpSettings

PIPELINE = {"route": {"responses": {"tiers": ["memory"]}}}


@functools.cache
def _planned(pipeline: str) -> Plan:
    return plan(json.loads(pipeline))


def cache_of(pipeline: Any = PIPELINE, clock: Callable[[], float] | None = None) -> Cache:
    """As `Cache.open`, but the same pipeline is planned once, which takes longer than most of these tests."""
    house = build(_planned(json.dumps(pipeline)), Clock(clock))
    return variant(house)(house)


@dataclass
class Answer:
    """What a client was sent."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False
    parts: int = 0

    def __getitem__(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key == name]
        return ", ".join(found) if found else None

    @property
    def hit(self) -> bool:
        return "; hit" in (self["cache-status"] or "")

    @property
    def text(self) -> str:
        return self.body.decode()


def scope_of(method: str, target: str, headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> dict:
    path, _, query = target.partition("?")
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    named = [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs]
    if not any(name == b"host" for name, _ in named):
        named.insert(0, (b"host", b"shop.example"))
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": method, "scheme": "http", "path": path, "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"), "root_path": "", "headers": named,
        "server": ("shop.example", 80), "client": ("127.0.0.1", 5), "extensions": {},
    }  # fmt: skip


async def ask(
    app: Any,
    target: str = "/",
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    method: str = "GET",
    *,
    on: Callable[[dict], Any] | None = None,
    leave: asyncio.Event | None = None,
    extensions: Mapping[str, Any] | None = None,
) -> Answer:
    """Send one request. *on* is called with each message, and may raise; *leave* lets the client hang up."""
    answer = Answer()
    asked = False

    async def receive() -> dict:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await (leave or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        if on is not None:
            on(message)
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = [(k.decode().lower(), v.decode("latin-1")) for k, v in message["headers"]]
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")
            answer.parts += 1
            answer.complete = not message.get("more_body", False)

    scope = scope_of(method, target, headers)
    scope["extensions"] = dict(extensions or {})
    await app(scope, receive, send)
    return answer


class Origin:
    """An application that answers what `say` was told, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.status = 200
        self.headers: list[tuple[str, str]] = []
        self.body: bytes | list[bytes] | Callable[[dict], bytes] = lambda scope: str(len(self.asked)).encode()
        self.error: BaseException | None = None
        self.handler: Any = None

    def say(self, *headers: tuple[str, str], status: int = 200, body: Any = None) -> None:
        self.headers = list(headers)
        self.status = status
        if body is not None:
            self.body = body

    def fields(self, number: int = -1) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.asked[number]["headers"]}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope)
        if self.handler is not None:
            await self.handler(scope, receive, send)
            return
        body = self.body(scope) if callable(self.body) else self.body
        status, headers = self.status, self.headers
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        named = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": named})
        parts = [body] if isinstance(body, bytes) else body
        if status == 304:
            parts = [b""]
        for part in parts[:-1]:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": parts[-1]})


@dataclass
class Web:
    """A cache before an origin, with a clock that stands still."""

    origin: Origin
    app: HttpCacheMiddleware
    http: HttpCache
    cache: Cache
    clock: FakeClock

    async def ask(self, *args: Any, **named: Any) -> Answer:
        return await ask(self.app, *args, **named)


@contextlib.asynccontextmanager
async def web(pipeline: Any = PIPELINE, **settings: Any) -> AsyncIterator[Web]:
    clock, origin = FakeClock(), Origin()
    async with cache_of(pipeline, clock) as cache:
        http = HttpCache(cache, HttpSettings(**settings), clock=clock)
        yield Web(origin, HttpCacheMiddleware(origin, http), http, cache, clock)


async def until(done: Callable[[], object]) -> None:
    """Let others run until *done*."""
    for _ in range(10_000):
        if done():
            return
        await asyncio.sleep(0)
    raise AssertionError("not after 10,000 turns of the loop")
