"""The wire to one server: a few of the driver's connections, and little Python around a command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from typing import Any, Final, Protocol, cast

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, MaxConnectionsError, RedisError, ResponseError, TryAgainError
from redis.exceptions import ConnectionError as Disconnected

Command = tuple[str | bytes | int, ...]
Reply = Any

SCANNED: Final = 1000
"""Keys that one SCAN looks at: the server's loop is held for about 0.5 ms."""

_TEXT: Final = frozenset({str})

# Its older name is deprecated in the releases that have the newer one.
_CAN_READ: Final = "can_read" if hasattr(AbstractConnection, "can_read") else "can_read_destructive"


class Wire(Protocol):
    """A way to the server or servers."""

    def place(self, key: str) -> Hashable:
        """Return what keys must have in common to be named by one command."""
        ...

    async def run(self, commands: Sequence[Command]) -> list[Reply]:
        """Send *commands* together and return their replies, an error reply as the exception itself.

        Raises the driver's errors where there is no reply.
        """
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
        self._free: list[Any] = []
        self._busy: set[Any] = set()
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
        connection = self._free.pop() if self._free else self._make()
        self._busy.add(connection)
        replies: list[Reply] = []
        writer = None
        try:
            await self._ready(connection)
            # Kept, because the driver lets go of it before it says that something went wrong.
            writer = _writer(connection)
            await self._send(connection, writer, packed(commands))
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
        except BaseException as error:
            # Whatever comes over it from now on answers nobody's question.
            await cut(connection, writer)
            if self._closed and isinstance(error, Exception):
                # Closed under its hands, the driver may fail in any way.
                raise Disconnected("closed") from error
            raise
        finally:
            self._busy.discard(connection)
            self._gate.release()
            if self._closed:
                await cut(connection)
            else:
                self._free.append(connection)
        return replies

    async def _send(self, connection: Any, writer: asyncio.StreamWriter | None, data: bytes) -> None:
        """Send *data*; wait only where it did not go out at once.

        The driver wraps each sending into `wait_for`, which on Python 3.11 is a task and two more turns of
        the loop: a fifth of a lone GET.
        """
        if writer is None:
            await connection.send_packed_command([data])
            return
        writer.write(data)
        if writer.transport.get_write_buffer_size():
            async with asyncio.timeout(self._patience):
                await writer.drain()

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
        """Nothing to forget: connections are looked at before they are used."""

    async def close(self) -> None:
        """Close every connection, those in use too; their callers get a connection error."""
        self._closed = True
        for connection in (*self._free, *self._busy):
            await cut(connection)
        self._free.clear()
        await asyncio.gather(*(sentinel.aclose() for sentinel in self._sentinels))

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._gate.acquire()
        except TimeoutError:
            raise MaxConnectionsError(
                f"none of {self._limit} connections came free within {self._patience:g} s"
            ) from None

    async def _ready(self, connection: Any) -> None:
        """Connect *connection* where it is new, was cut by the server, or has something unread."""
        if connection.is_connected:
            try:
                stale = await getattr(connection, _CAN_READ)()
            except (RedisError, OSError):
                stale = True
            if not stale:
                return
            await cut(connection)
        await connection.connect()
        if self._closed:
            raise Disconnected("closed")


def redirects(reply: Reply) -> bool:
    """Return whether *reply* says that another node of a cluster holds the key, or soon will."""
    # Older releases of the driver have types of their own for these only in the cluster's connections.
    return isinstance(reply, ResponseError) and (
        isinstance(reply, (AskError, TryAgainError)) or str(reply).startswith(("MOVED ", "ASK ", "TRYAGAIN "))
    )


def _writer(connection: Any) -> asyncio.StreamWriter | None:
    return getattr(connection, "_writer", None)


async def cut(connection: Any, writer: asyncio.StreamWriter | None = None) -> None:
    """Close *connection* at once. Closing politely, TLS waits for a goodbye that a hung server never says."""
    writer = writer or _writer(connection)
    await connection.disconnect(nowait=True)
    if writer is not None:
        writer.transport.abort()


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
