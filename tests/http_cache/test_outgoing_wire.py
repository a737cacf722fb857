"""Over sockets: what a server sends, byte for byte, and what is left of it in the cache."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from http_cache.calling import told
from http_cache.talking import PIPELINE, cache_of
from http_cache.test_middleware import scenario
from tiercache import Cache
from tiercache_plugins.integrations.http.outgoing import AsyncCacheTransport, CacheTransport

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "outgoing_calls.py"
TEXT = b"the answer " * 500
HEAD = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n"
ANSWERS = {
    "/plain": HEAD + b"Content-Length: 2\r\n\r\nok",
    "/gzip": HEAD + b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n",
    "/short": HEAD + b"Content-Length: 100\r\n\r\nonly this",
    "/cut": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "/none": b"HTTP/1.1 204 No Content\r\nCache-Control: max-age=60\r\n\r\n",
    "/tagged": b'HTTP/1.1 200 OK\r\nCache-Control: no-cache\r\nETag: "t"\r\nContent-Length: 2\r\n\r\nok',
}


class Wire:
    """A server that sends what `ANSWERS` holds and hangs up, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            self.asked.append(path)
            if path == "/tagged" and 'if-none-match: "t"' in head.lower():
                writer.write(b'HTTP/1.1 304 Not Modified\r\nETag: "t"\r\nX-News: 1\r\n\r\n')
            else:
                writer.write(ANSWERS[path])
            if path == "/gzip":
                packed = gzip.compress(TEXT)
                for part in (packed[:20], packed[20:], b""):
                    writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def wire():
    origin = Wire()
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0)
    origin.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield origin
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def client_of(origin):
    async with (
        cache_of(PIPELINE) as cache,
        httpx.AsyncClient(
            transport=AsyncCacheTransport(cache), base_url=origin.url, timeout=30, trust_env=False
        ) as client,
    ):
        yield client


@scenario
async def test_what_was_encoded_on_the_wire_is_decoded_from_the_cache_as_well():
    async with wire() as origin, client_of(origin) as client:
        first, second = await client.get("/gzip"), await client.get("/gzip")
        assert first.content == second.content == TEXT
        assert (told(first).hit, told(second).hit, len(origin.asked)) == (False, True, 1)
        assert second.headers["content-encoding"] == "gzip"
        async with client.stream("GET", "/gzip") as raw:
            assert gzip.decompress(b"".join([part async for part in raw.aiter_raw()])) == TEXT


@pytest.mark.parametrize("path", ["/short", "/cut"])
@scenario
async def test_what_breaks_off_is_an_error_and_stored_nowhere(path):
    async with wire() as origin, client_of(origin) as client:
        for _ in range(2):
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(path)
        assert origin.asked == [path, path]


@scenario
async def test_answers_without_a_body_and_confirmed_ones_are_whole():
    async with wire() as origin, client_of(origin) as client:
        assert [(await client.get("/none")).status_code for _ in range(2)] == [204, 204]
        assert [(await client.get("/tagged")).text for _ in range(2)] == ["ok", "ok"]
        confirmed = await client.get("/tagged")
        assert (confirmed.headers["x-news"], confirmed.status_code) == ("1", 200)
        assert (told(confirmed).answered, origin.asked.count("/tagged")) == (304, 3)
        assert origin.asked.count("/none") == 1


@scenario
async def test_fifty_calls_at_once_are_one_on_the_wire_and_what_the_transport_says_is_kept():
    async with wire() as origin, client_of(origin) as client:
        answers = await asyncio.gather(*(client.get("/plain") for _ in range(50)))
        assert {answer.text for answer in answers} == {"ok"}
        assert origin.asked == ["/plain"]
        assert sum("network_stream" in answer.extensions for answer in answers) == 1


@scenario
async def test_threads_talk_to_the_same_server():
    async with wire() as origin:

        def calls():
            with (
                Cache.open_sync(PIPELINE) as cache,
                httpx.Client(
                    transport=CacheTransport(cache), base_url=origin.url, timeout=30, trust_env=False
                ) as client,
            ):
                answers = [client.get("/gzip") for _ in range(2)]
                assert [answer.content for answer in answers] == [TEXT, TEXT]
                assert [told(answer).hit for answer in answers] == [False, True]
                for _ in range(2):
                    with pytest.raises(httpx.RemoteProtocolError):
                        client.get("/short")

        await asyncio.to_thread(calls)
        assert origin.asked == ["/gzip", "/short", "/short"]


@scenario
async def test_the_example_asks_a_server_once_for_each_user():
    async with wire() as origin:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(EXAMPLE), f"{origin.url}/plain",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        printed, _ = await process.communicate()
        lines = printed.decode().splitlines()
        assert process.returncode == 0, lines
        assert lines[0].startswith("first: 200, asked (uri-miss)")
        assert lines[1].startswith("again: 200, from the cache, fresh for ")
        assert lines[2] == "20 at once with other credentials: 1 asked"
        assert origin.asked == ["/plain", "/plain"]
