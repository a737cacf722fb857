"""The wire to one server: a few of the driver's connections, and little Python around a command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, MaxConnectionsError, ReadOnlyError, ResponseError, TryAgainError
from redis.exceptions import ConnectionError as Disconnected

from tiercache_plugins.tiers.redis.exchange import Arrive, Exchange, Reply

Command = tuple[str | bytes | int, ...]

SCANNED: Final = 1000
"""Keys that one SCAN looks at: the server's loop is held for about 0.5 ms."""

_TEXT: Final = frozenset({str})


class Wire(Protocol):
    """A way to the server or servers."""

    known: bool
    """Whether it can be told without asking which server holds a key."""

    def place(self, key: str) -> Hashable:
        """Return what keys must have in common to be named by one command."""
        ...

    async def run(self, commands: Sequence[Command]) -> list[Reply]:
        """Send *commands* together and return their replies, an error reply as the exception itself.

        Raises the driver's errors where there is no reply.
        """
        ...

    def soon(self, commands: Sequence[Command], arrive: Arrive) -> bool:
        """Do what `run` does, and call *arrive*; return False where no connection stands ready."""
        ...

    def scan(self, pattern: str) -> AsyncIterator[Sequence[bytes]]:
        """Yield the keys that match, of every primary."""
        ...

    async def everywhere(self, command: Callable[[int], Command]) -> int:
        """Send what *command* gives for its number to each primary; return how many there are."""
        ...

    async def another(self) -> AbstractConnection:
        """Return a new connection to a primary, not connected yet, which the caller closes."""
        ...

    async def refresh(self) -> None:
        """Forget where the keys are, after an error."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class Line:
    """The wire to one server, also to the one that Sentinel names.

    Connections are made by *make*, at most *limit* at a time; who wants one more waits *patience* seconds.
    """

    known = True

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        limit: int,
        patience: float,
        sentinels: Sequence[Any] = (),
    ) -> None:
        self._make = make
        self._limit = limit
        self._patience = patience
        self._sentinels = sentinels
        self._gate = asyncio.Semaphore(limit)
        self._free: list[Exchange] = []
        self._busy: set[Exchange] = set()
        self._beginning: set[AbstractConnection] = set()
        self._closed = False

    def place(self, key: str) -> Hashable:
        """Return the same for all keys: one server holds them."""
        del key
        return None

    async def run(self, commands: Sequence[Command]) -> list[Reply]:
        """Send *commands* in one write, over one connection."""
        if self._closed:
            raise Disconnected("closed")
        if self._gate.locked():
            await self._wait()
        else:
            await self._gate.acquire()
        exchange = None
        try:
            exchange = self._standing() or await self._begun()
            self._busy.add(exchange)
            replies = await exchange.answers(packed(commands), len(commands))
            if self._sentinels and any(isinstance(reply, ReadOnlyError) for reply in replies):
                exchange.end(failure := Disconnected("the primary has become a replica"))
                raise failure
            return replies
        finally:
            self._left(exchange)

    def soon(self, commands: Sequence[Command], arrive: Arrive) -> bool:
        """Do what `run` does, and call *arrive*; return False where no connection stands ready."""
        if self._closed or self._gate.locked() or (exchange := self._standing()) is None:
            return False
        _pass(self._gate)
        self._busy.add(exchange)

        def arrived(replies: list[Reply] | None, error: BaseException | None) -> None:
            self._left(exchange)
            arrive(replies, error)

        exchange.ask(packed(commands), len(commands), arrived)
        return True

    def _standing(self) -> Exchange | None:
        """Return a connection that is not in use, if there is one."""
        while self._free:
            if (exchange := self._free.pop()).alive:
                return exchange
        return None

    async def _begun(self) -> Exchange:
        """Return a new connection."""
        connection: Any = self._make()
        self._beginning.add(connection)
        try:
            await connection.connect()
            exchange = Exchange(connection, self._patience)
        except BaseException as error:
            await cut(connection)
            if self._closed and isinstance(error, Exception):
                # Closed under its hands, the driver may fail in any way.
                raise Disconnected("closed") from error
            raise
        finally:
            self._beginning.discard(connection)
        if self._closed:
            exchange.end(closed := Disconnected("closed"))
            raise closed
        return exchange

    def _left(self, exchange: Exchange | None) -> None:
        self._gate.release()
        if exchange is not None:
            self._busy.discard(exchange)
            if exchange.alive:
                self._free.append(exchange)

    async def scan(self, pattern: str) -> AsyncIterator[Sequence[bytes]]:
        """Yield the keys that match."""
        cursor = 0
        while True:
            reply = (await self.run([("SCAN", cursor, "MATCH", pattern, "COUNT", SCANNED)]))[0]
            if isinstance(reply, ResponseError):
                raise reply
            cursor = int(reply[0])
            yield reply[1]
            if not cursor:
                return

    async def everywhere(self, command: Callable[[int], Command]) -> int:
        """Send *command* to the one there is."""
        (reply,) = await self.run([command(0)])
        if isinstance(reply, ResponseError):
            raise reply
        return 1

    async def another(self) -> AbstractConnection:
        """Return a new connection."""
        if self._closed:
            raise Disconnected("closed")
        return self._make()

    async def refresh(self) -> None:
        """Nothing to forget: a connection that ends is known to."""

    async def close(self) -> None:
        """Close every connection, those in use too; their callers get a connection error."""
        self._closed = True
        for exchange in (*self._free, *self._busy):
            exchange.end(Disconnected("closed"))
        self._free.clear()
        for connection in list(self._beginning):
            await cut(connection)
        await asyncio.gather(*(sentinel.aclose() for sentinel in self._sentinels))

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._gate.acquire()
        except TimeoutError:
            raise MaxConnectionsError(
                f"none of {self._limit} connections came free within {self._patience:g} s"
            ) from None


def redirects(reply: Reply) -> bool:
    """Return whether *reply* says that another node of a cluster holds the key, or soon will."""
    # Older releases of the driver have types of their own for these only in the cluster's connections.
    return isinstance(reply, ResponseError) and (
        isinstance(reply, (AskError, TryAgainError)) or str(reply).startswith(("MOVED ", "ASK ", "TRYAGAIN "))
    )


async def cut(connection: AbstractConnection) -> None:
    """Close *connection* at once. Closing politely, TLS waits for a goodbye that a hung server never says."""
    # Kept, because the driver lets go of it.
    writer: asyncio.StreamWriter | None = getattr(connection, "_writer", None)
    await connection.disconnect(nowait=True)
    if writer is not None:
        writer.transport.abort()


def _pass(gate: asyncio.Semaphore) -> None:
    """Acquire *gate*, which is open, without a task."""
    with suppress(StopIteration):
        gate.acquire().send(None)


def packed(commands: Sequence[Command]) -> bytes:
    """Return *commands* in the protocol's form. The driver's own packer costs three times as much."""
    out: list[bytes] = []
    for command in commands:
        out.append(b"*%d\r\n" % len(command))
        if set(map(type, command)) == _TEXT:
            # A read of many keys: put together as text, a third of the time.
            words = cast("tuple[str, ...]", command)
            text = "".join([f"${len(word)}\r\n{word}\r\n" for word in words])
            if text.isascii():
                out.append(text.encode())
                continue
        for part in command:
            data = part if isinstance(part, bytes) else str(part).encode()
            out.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(out)
