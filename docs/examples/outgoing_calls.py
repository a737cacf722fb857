"""Ask for a URL twice, then twenty times at once as another user, and see what became of each call.

python docs/examples/outgoing_calls.py [URL]

Without a URL it asks a small server of its own.
"""

from __future__ import annotations

import asyncio
import sys

import httpx

from tiercache import Cache
from tiercache_plugins.integrations.http.outgoing import AsyncCacheTransport, Handling


def told(response: httpx.Response) -> str:
    """Return in words what became of the call that *response* answers."""
    handling: Handling = response.extensions["tiercache"]
    if handling.hit:
        return f"{response.status_code}, from the cache, fresh for {handling.ttl:.0f} s"
    return f"{response.status_code}, asked ({handling.forwarded}), stored: {handling.stored}"


async def main(url: str) -> None:
    """Make the calls."""
    cache = Cache.open({"route": {"responses": {"tiers": ["memory"]}}})
    async with cache, httpx.AsyncClient(transport=AsyncCacheTransport(cache), trust_env=False) as client:
        print(f"first: {told(await client.get(url))}")
        print(f"again: {told(await client.get(url))}")
        other = {"Authorization": "Bearer another"}
        answers = await asyncio.gather(*(client.get(url, headers=other) for _ in range(20)))
        handlings = [answer.extensions["tiercache"] for answer in answers]
        asked = sum(not (one.hit or one.collapsed) for one in handlings)
        print(f"20 at once with other credentials: {asked} asked")


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request with a minute of freshness."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nok")
    await writer.drain()
    writer.close()


async def alone() -> None:
    """Make the calls to a server in this process."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        await main(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]) if len(sys.argv) > 1 else alone())
