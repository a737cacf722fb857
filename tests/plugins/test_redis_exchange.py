"""The connections of the Redis tier: whose reply is whose, whatever comes over the wire and when.

What no server of ours says of its own accord, a server of a few lines says here, byte by byte.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio.connection import Connection
from redis.exceptions import BusyLoadingError, NoScriptError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as Overdue

from servers import Certificates, Server
from tiercache import TierError
from tiercache.testing.tiers import Surroundings, record_of
from tiercache_plugins.tiers.redis import RedisConfig
from tiercache_plugins.tiers.redis.connect import connection_options
from tiercache_plugins.tiers.redis.exchange import Exchange
from tiercache_plugins.tiers.redis.line import Line, packed

PATIENCE = 5.0
CONFIG = RedisConfig(protocol=2, client_name="t", timeout=PATIENCE)
HANDSHAKE = b"CLIENT"
PUSHED = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"

Say = Callable[[asyncio.StreamWriter, list[bytes]], Awaitable[None]]


@asynccontextmanager
async def serving(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Run a server that lets *serve* talk over each connection; yield its port."""
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.ensure_future(talk(reader, writer)))

    async with await asyncio.start_server(begin, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        for one in talks:
            one.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
    await asyncio.sleep(0)


@asynccontextmanager
async def told(say: Say, *, greeting: bytes = b"") -> AsyncIterator[int]:
    """Run a server that lets *say* answer each command; yield its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = hiredis.Reader()
        while data := await reader.read(65536):
            asked.feed(data)
            while (command := asked.gets()) is not False:
                if command[0] == HANDSHAKE:
                    writer.write(b"+OK\r\n" + greeting)
                else:
                    await say(writer, command)

    async with serving(serve) as port:
        yield port


def connection_to(port: int) -> Any:
    """Return a connection that gives its name when it begins, and says no more."""
    return Connection(host="127.0.0.1", port=port, **connection_options(CONFIG, Path()))


@asynccontextmanager
async def exchange(say: Say, *, patience: float = PATIENCE) -> AsyncIterator[Exchange]:
    async with told(say) as port:
        connection = connection_to(port)
        await connection.connect()
        taken = Exchange(connection, patience)
        try:
            yield taken
        finally:
            taken.end(Disconnected("the test is over"))
            await asyncio.sleep(0)


def line_to(port: int, **options: Any) -> Line:
    return Line(partial(connection_to, port), **{"limit": 2, "patience": PATIENCE, **options})


def run(scenario: Awaitable[None]) -> None:
    async def life() -> None:
        async with asyncio.timeout(20):
            await scenario

    asyncio.run(life())
    # A connection that nobody closed would complain when it is collected.
    gc.collect()


def encoded(reply: object) -> bytes:
    match reply:
        case None:
            return b"$-1\r\n"
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case int():
            return b":%d\r\n" % reply
        case list():
            return b"*%d\r\n" % len(reply) + b"".join(map(encoded, reply))
    raise TypeError(type(reply))


def answering(*replies: bytes) -> Say:
    """Return what answers one command after the other by *replies*."""
    left = list(replies)

    async def say(writer: asyncio.StreamWriter, command: list[bytes]) -> None:
        del command
        writer.write(left.pop(0))

    return say


REPLIES = st.recursive(
    st.none() | st.binary(max_size=40) | st.integers(-(2**63), 2**63 - 1),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(replies=st.lists(REPLIES, min_size=1, max_size=5), sizes=st.lists(st.integers(1, 30), max_size=30))
def test_replies_come_whole_and_in_order_however_the_bytes_fall(
    replies: list[object], sizes: list[int]
) -> None:
    def pushed(chunk: object) -> bytes:
        return PUSHED + encoded(chunk)

    async def scenario() -> None:
        async with exchange(answering()) as taken:
            for encode in (encoded, pushed):
                came: list[Any] = []
                taken.ask(b"", len(replies), lambda *what, came=came: came.append(what))
                data = b"".join(map(encode, replies))
                for size in sizes:
                    if not data:
                        break
                    taken.data_received(data[:size])
                    assert not came or size >= len(data)
                    data = data[size:]
                if data:
                    taken.data_received(data)
                assert came == [(replies, None)]
                assert taken.alive

    run(scenario())


def test_an_error_is_a_reply_as_the_driver_names_it() -> None:
    say = answering(b"-NOSCRIPT none\r\n", b"-ERR odd\r\n", b"-READONLY no\r\n", b":1\r\n")

    async def scenario() -> None:
        async with exchange(say) as taken:
            replies = await taken.answers(packed([("A",), ("B",), ("C",), ("D",)]), 4)
            assert [type(reply) for reply in replies] == [NoScriptError, ResponseError, ReadOnlyError, int]
            assert taken.alive

    run(scenario())


def test_a_server_that_is_not_ready_is_no_connection() -> None:
    async def scenario() -> None:
        async with exchange(answering(b"-LOADING patience\r\n")) as taken:
            with pytest.raises(BusyLoadingError):
                await taken.answers(packed([("A",)]), 1)
            assert not taken.alive

    run(scenario())


@pytest.mark.parametrize("said", [b":1\r\n:2\r\n", b"~nonsense\r\n", b"\x00\x01\x02\x03\r\n"])
def test_what_nobody_asked_for_or_can_read_ends_the_connection(said: bytes) -> None:
    async def scenario() -> None:
        async with exchange(answering(said)) as taken:
            with pytest.raises(Disconnected):
                await taken.answers(packed([("A",)]), 1)
            assert not taken.alive

    run(scenario())


def test_an_answer_that_comes_unasked_ends_the_connection_before_anybody_uses_it() -> None:
    async def say(writer: asyncio.StreamWriter, command: list[bytes]) -> None:
        writer.write(b":1\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(b":2\r\n")

    async def scenario() -> None:
        async with exchange(say) as taken:
            assert await taken.answers(packed([("A",)]), 1) == [1]
            assert taken.alive
            while taken.alive:
                await asyncio.sleep(0.01)

    run(scenario())


def test_what_the_driver_has_read_beyond_the_handshake_is_not_the_answer_to_a_question() -> None:
    async def scenario() -> None:
        async with told(answering(), greeting=b"$5\r\nstale\r\n") as port:
            line = line_to(port)
            with pytest.raises(Disconnected, match="before it was asked"):
                await line.run([("A",)])
            await line.close()

    run(scenario())


def test_a_server_that_closes_tells_who_waits() -> None:
    async def say(writer: asyncio.StreamWriter, command: list[bytes]) -> None:
        writer.write(b"$5\r\nha")
        writer.close()

    async def scenario() -> None:
        async with exchange(say) as taken:
            with pytest.raises(Disconnected):
                await taken.answers(packed([("A",)]), 1)
            assert not taken.alive

    run(scenario())


def test_the_patience_is_for_each_reply_and_ends_the_connection() -> None:
    async def say(writer: asyncio.StreamWriter, command: list[bytes]) -> None:
        if command != [b"NEVER"]:
            await asyncio.sleep(0.2)
            writer.write(b":1\r\n")

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with exchange(say, patience=0.4) as taken:
            assert await taken.answers(packed([("A",)] * 5), 5) == [1] * 5
            begun = loop.time()
            with pytest.raises(Overdue, match=r"0\.4 s"):
                await taken.answers(packed([("NEVER",)]), 1)
            assert loop.time() - begun >= 0.4 - 0.02
            assert not taken.alive

    run(scenario())


def test_what_is_too_large_for_one_sending_may_take_its_time() -> None:
    """The patience begins again when everything has gone out."""
    size = 40_000_000

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"SETNAME")
        writer.write(b"+OK\r\n")
        await asyncio.sleep(0.3)
        left = size
        while left > 0:
            left -= len(await reader.read(2**20))
        await asyncio.sleep(0.3)
        writer.write(b":1\r\n")
        await reader.read()

    async def scenario() -> None:
        async with serving(serve) as port:
            connection = connection_to(port)
            await connection.connect()
            taken = Exchange(connection, 0.5)
            assert await taken.answers(b"x" * size, 1) == [1]
            taken.end(Disconnected("over"))
            await asyncio.sleep(0)

    run(scenario())


def test_who_gives_up_leaves_no_answer_to_the_next() -> None:
    async def say(writer: asyncio.StreamWriter, command: list[bytes]) -> None:
        await asyncio.sleep(0.05)
        writer.write(encoded(command[-1]))

    async def scenario() -> None:
        async with told(say) as port:
            line = line_to(port, limit=1)
            assert await line.run([("GET", "a")]) == [b"a"]
            leaving = asyncio.ensure_future(line.run([("GET", "b")]))
            await asyncio.sleep(0.01)
            leaving.cancel()
            assert await line.run([("GET", "c")]) == [b"c"]
            with pytest.raises(asyncio.CancelledError):
                await leaving
            await line.close()

    run(scenario())


def test_soon_answers_as_run_does_and_shares_its_connections() -> None:
    held = asyncio.Event()

    async def say(writer: asyncio.StreamWriter, command: list[bytes]) -> None:
        if command[-1] == b"held":
            await held.wait()
        writer.write(encoded(command[-1]))

    async def scenario() -> None:
        came: list[Any] = []

        def arrive(*what: Any) -> None:
            assert asyncio.current_task() is None
            came.append(what)

        def ask(key: str) -> bool:
            return line.soon([("GET", key)], arrive)

        async with told(say) as port:
            line = line_to(port)
            assert not ask("a"), "no connection stands yet, and one is not made without a task"
            await asyncio.gather(line.run([("GET", "x")]), line.run([("GET", "y")]))
            assert ask("held")
            assert ask("a")
            assert not ask("b"), "both are in use"
            waiting = asyncio.ensure_future(line.run([("GET", "z")]))
            assert came == []
            assert await waiting == [b"z"], "it goes on when the first is answered"
            assert came == [([b"a"], None)]
            held.set()
            while len(came) < 2:
                await asyncio.sleep(0.01)
            assert came[1] == ([b"held"], None)
            assert ask("a")
            await line.close()
            assert not ask("a")
            await asyncio.sleep(0)
            (nothing, error) = came[2]
            assert nothing is None
            assert isinstance(error, Disconnected)

    run(scenario())


def test_a_connection_that_broke_while_nobody_used_it_is_not_used_again() -> None:
    async def say(writer: asyncio.StreamWriter, command: list[bytes]) -> None:
        writer.write(b":1\r\n")
        writer.close()

    async def scenario() -> None:
        async with told(say) as port:
            line = line_to(port, limit=1)
            for _ in range(3):
                assert await line.run([("A",)]) == [1]
                await asyncio.sleep(0.05)
                assert not line.soon([("A",)], lambda *_: None)
            await line.close()

    run(scenario())


def test_a_primary_that_became_a_replica_is_looked_for_again() -> None:
    class Asked:
        async def aclose(self) -> None:
            pass

    async def scenario() -> None:
        async with told(answering(b"-READONLY no\r\n", b":1\r\n", b"-READONLY no\r\n")) as port:
            line = line_to(port, sentinels=[Asked()])
            with pytest.raises(Disconnected, match="replica"):
                await line.run([("SET", "a", "b")])
            assert not line.soon([("A",)], lambda *_: None), "its connection is cut"
            assert await line.run([("SET", "a", "b")]) == [1]
            await line.close()
            line = line_to(port)
            (reply,) = await line.run([("SET", "a", "b")])
            assert isinstance(reply, ReadOnlyError), "nobody knows another one"
            await line.close()

    run(scenario())


def test_a_prompt_read_that_fails_is_told_so_and_counted_out(tmp_path: Path) -> None:
    """Closing waits for what is under way, so whatever began must end."""

    async def scenario() -> None:
        came: list[Sequence[bytes | None] | None] = []
        with Server("valkey") as server:
            config = RedisConfig(url=server.url, timeout=0.2)
            tier: Any = config.build(Surroundings(tmp_path, name="shared", namespace="app"))
            assert not tier.read_soon(["app:a"], came.append), "not open yet"
            await tier.open()
            record = record_of("app:a")
            await tier.write([record])
            calls = tier.stats()["calls"]
            assert tier.read_soon(["app:a", "app:b"], came.append)
            while not came:
                await asyncio.sleep(0.01)
            assert came == [[record.frame, None]]
            server.freeze()
            assert tier.read_soon(["app:a"], came.append)
            while len(came) < 2:
                await asyncio.sleep(0.01)
            assert came[1] is None
            assert tier.stats()["calls"] == calls + 2
            with pytest.raises(TierError, match="TimeoutError"):
                await tier.read(["app:a"])
            await tier.close()

    run(scenario())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_many_large_frames_come_whole_by_tls(
    tls_server: Server, certificates: Certificates, tmp_path: Path, loop: str
) -> None:
    module: Any = pytest.importorskip(loop)
    files = {"tls_ca": certificates.ca, "tls_cert": certificates.cert, "tls_key": certificates.key}
    records = [record_of(f"app:{loop}:{n}", b"x" * n * 1000) for n in range(200)]
    keys, frames = [record.key for record in records], [record.frame for record in records]

    async def scenario() -> None:
        config = RedisConfig.model_validate({"url": tls_server.url, "timeout": 10, **files})
        tier: Any = config.build(Surroundings(tmp_path, name="shared", namespace="app"))
        await tier.open()
        await tier.write(records)
        for answer in await asyncio.gather(*(tier.read(keys) for _ in range(5))):
            assert answer == frames
        came: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        assert tier.read_soon(keys, came.set_result)
        assert await came == frames
        await tier.close()

    with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
        runner.run(asyncio.wait_for(scenario(), 60))
    gc.collect()
