"""The cache as a reverse proxy before one origin, for the public suite. Run as a program.

The forwarder reads HTTP/1.1 by hand, because clients tidy up what the suite sends on purpose.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from typing import Any

import httpx
import uvicorn

from tiercache import Cache
from tiercache_plugins.integrations.http import HttpCache, HttpCacheMiddleware, HttpSettings
from tiercache_plugins.integrations.http.outgoing import AsyncCacheTransport

HOP = {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection"}
FRAMING = {b"transfer-encoding", b"keep-alive", b"upgrade", b"te", b"trailer"}
# Nothing but what the suite is about: no freshness that a response did not state, and the field that a part
# of the suite sends.
SETTINGS = HttpSettings(ttl=None, targeted=("surrogate-control",))


class Forwarder:
    """An ASGI application that asks the origin at *port*; 502 where that breaks off."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        try:
            await self.forward(scope, receive, send)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            with contextlib.suppress(RuntimeError):
                await send({"type": "http.response.start", "status": 502, "headers": []})
                await send({"type": "http.response.body", "body": b""})

    async def forward(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
            head = [scope["method"].encode() + b" " + target + b" HTTP/1.1", b"connection: close"]
            head += [name + b": " + value for name, value in scope["headers"] if name not in HOP]
            writer.write(b"\r\n".join(head) + b"\r\n\r\n" + body)
            await writer.drain()
            status = int((await reader.readuntil(b"\r\n")).split(b" ", 2)[1])
            headers = []
            while (line := (await reader.readuntil(b"\r\n"))[:-2]) != b"":
                name, _, value = line.partition(b":")
                headers.append((name.lower(), value.strip()))
            fields = dict(headers)
            content = b""
            if scope["method"] != "HEAD" and status not in {204, 304}:
                if fields.get(b"transfer-encoding", b"").endswith(b"chunked"):
                    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                        content += await reader.readexactly(size)
                        await reader.readuntil(b"\r\n")
                elif b"content-length" in fields:
                    content = await reader.readexactly(int(fields[b"content-length"]))
                else:
                    content = await reader.read()
        finally:
            writer.close()
        named = {part.strip().lower() for part in fields.get(b"connection", b"").split(b",")}
        passed = [
            (name, value) for name, value in headers if name not in FRAMING and not (
                name == b"connection" and named <= {b"close", b"keep-alive"}
            )
        ]  # fmt: skip
        # The origin says 999 where a request ought to have been conditional; uvicorn can't.
        await send({"type": "http.response.start", "status": min(status, 599), "headers": passed})
        await send({"type": "http.response.body", "body": content})


class Detour(httpx.AsyncHTTPTransport):
    """A transport to the origin at *port*, wherever a call is meant for."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.copy_with(port=self.port)
        there = httpx.Request(request.method, url, headers=request.headers.raw, stream=request.stream)
        return await super().handle_async_request(there)


class Client:
    """An ASGI application that asks by a client of httpx, whose calls are cached as a shared cache has it."""

    def __init__(self, cache: Cache, port: int) -> None:
        self.transport = AsyncCacheTransport(cache, Detour(port), shared=True)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message.get("body", b"")
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        headers = [pair for pair in scope["headers"] if pair[0] not in HOP]
        host = dict(headers)[b"host"].decode()
        request = httpx.Request(
            scope["method"], f"http://{host}{target.decode()}", headers=headers, content=body or None
        )
        try:
            response = await self.transport.handle_async_request(request)
            content = b"".join([part async for part in response.stream])
        except httpx.HTTPError:
            await send({"type": "http.response.start", "status": 502, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await response.aclose()
        passed = [pair for pair in response.headers.raw if pair[0].lower() not in FRAMING]
        await send(
            {"type": "http.response.start", "status": min(response.status_code, 599), "headers": passed}
        )
        await send({"type": "http.response.body", "body": content})


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--origin", type=int, required=True)
    parser.add_argument("--outgoing", action="store_true", help="the cache of a client instead")
    arguments = parser.parse_args()
    cache = Cache.open({"route": {"responses": {"tiers": ["memory"]}}})
    app: Any = Client(cache, arguments.origin)
    if not arguments.outgoing:
        app = HttpCacheMiddleware(Forwarder(arguments.origin), HttpCache(cache, SETTINGS))
    uvicorn.run(
        app, host="127.0.0.1", port=arguments.port, http="h11", date_header=False, server_header=False,
        log_level="warning", lifespan="off",
    )  # fmt: skip


if __name__ == "__main__":
    main()
