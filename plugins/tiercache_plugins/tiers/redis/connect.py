"""From options to connections: what the installed driver is told, and the wire that speaks to one server."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from redis import asyncio as driver
from redis.asyncio.connection import (
    AbstractConnection,
    BlockingConnectionPool,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from tiercache_plugins.tiers.redis import RedisConfig

Command = tuple[str | bytes | int, ...]
Reply = Any


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

    async def refresh(self) -> None:
        """Forget connections that may be dead, and where the keys are."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class Line:
    """The wire to one server, also to the one that Sentinel names."""

    def __init__(self, pool: Any, sentinels: Sequence[driver.Redis] = ()) -> None:
        self._pool = pool
        self._sentinels = sentinels
        self._closed = False
        # Before 5.3 the driver wants a name that it does not use, afterwards it warns of one.
        named = inspect.signature(pool.get_connection).parameters.get("command_name")
        self._name = ("_",) if named is not None and named.default is inspect.Parameter.empty else ()

    def place(self, key: str) -> Hashable:
        """Return the same for all keys: one server holds them."""
        del key
        return None

    async def run(self, commands: Sequence[Command]) -> list[Reply]:
        """Send *commands* in one write, over one connection."""
        connection: Any = await self._pool.get_connection(*self._name)
        replies: list[Reply] = []
        try:
            await connection.send_packed_command(packed(commands))
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
        except BaseException:
            # Whatever comes over it now answers nobody's question.
            await connection.disconnect(nowait=True)
            raise
        finally:
            if self._closed:
                await connection.disconnect(nowait=True)
            await self._pool.release(connection)
        return replies

    async def scan(self, pattern: str) -> AsyncIterator[Sequence[bytes]]:
        """Yield the keys that match."""
        cursor: int | bytes = 0
        while True:
            reply = (await self.run([("SCAN", cursor, "MATCH", pattern, "COUNT", SCANNED)]))[0]
            if isinstance(reply, ResponseError):
                raise reply
            cursor = int(reply[0])
            yield reply[1]
            if not cursor:
                return

    async def refresh(self) -> None:
        """Nothing to forget: the pool looks at a connection before it hands it out."""

    async def close(self) -> None:
        """Close every connection, those in use too; their callers get a connection error."""
        self._closed = True
        await self._pool.disconnect(inuse_connections=True)
        for sentinel in self._sentinels:
            await sentinel.aclose()


SCANNED = 1000
"""Keys that one SCAN looks at: the server's loop is held for about 0.5 ms."""


def packed(commands: Sequence[Command]) -> list[bytes]:
    """Return *commands* in the protocol's form. The driver's own packer costs three times as much."""
    out: list[bytes] = []
    for command in commands:
        out.append(b"*%d\r\n" % len(command))
        for part in command:
            data = part if isinstance(part, bytes) else str(part).encode()
            out.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return [b"".join(out)]


def line(config: RedisConfig, directory: Path) -> Line:
    """Return the wire of mode "standalone"."""
    address = config.address
    if address.path:
        options = connection_options(config, directory)
        return _pooled(config, UnixDomainSocketConnection, {**options, "path": address.path})
    return line_to(config, directory, *config.servers()[0])


def line_to(config: RedisConfig, directory: Path, host: str, port: int) -> Line:
    """Return a wire to the server at *host* and *port*."""
    kind = SSLConnection if config.address.tls else Connection
    return _pooled(config, kind, {**connection_options(config, directory), "host": host, "port": port})


def _pooled(config: RedisConfig, kind: type[AbstractConnection], options: dict[str, Any]) -> Line:
    return Line(
        BlockingConnectionPool(
            max_connections=config.connections, timeout=config.timeout, connection_class=kind, **options
        )
    )


def sentinel_line(config: RedisConfig, directory: Path) -> Line:
    """Return the wire of mode "sentinel"."""
    options = connection_options(config, directory)
    asked = {**options, "db": 0, "username": config.sentinel_username, "password": None}
    if config.sentinel_password is not None:
        asked["password"] = config.sentinel_password.get_secret_value()
    asked = known(driver.Redis.__init__, {**asked, "ssl": config.address.tls, "max_connections": 2})
    # The driver has types for little of Sentinel.
    sentinel: Any = Sentinel
    pools: Any = SentinelConnectionPool
    group = sentinel(config.servers(), sentinel_kwargs=asked)
    pool = pools(config.service, group, ssl=config.address.tls, max_connections=config.connections, **options)
    return Line(pool, group.sentinels)


def connection_options(config: RedisConfig, directory: Path) -> dict[str, Any]:
    """Return what a connection is made with, in the words of the installed driver."""
    username, password = config.credentials()
    options: dict[str, Any] = {
        "db": config.address.db,
        "username": username,
        "password": password,
        "socket_timeout": config.timeout,
        "socket_connect_timeout": config.timeout,
        "protocol": config.protocol,
        "client_name": config.client_name,
        # The tier decides what is asked again.
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
    }
    parameters = inspect.signature(AbstractConnection.__init__).parameters
    if "driver_info" in parameters:
        options["driver_info"] = None
    else:
        options |= {"lib_name": None, "lib_version": None}
    if "maint_notifications_config" in parameters:
        from redis.maint_notifications import MaintNotificationsConfig

        # Switched on, the driver no longer looks whether a connection holds an answer to somebody else.
        options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    if not config.address.path:
        options["socket_keepalive"] = True
    if config.address.tls:
        options |= {
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": config.tls_check_hostname,
            "ssl_ca_certs": _file(config.tls_ca, directory),
            "ssl_certfile": _file(config.tls_cert, directory),
            "ssl_keyfile": _file(config.tls_key, directory),
        }
    return options


def known(function: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return those of *options* that *function* takes."""
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in parameters}


def _file(path: Path | None, directory: Path) -> str | None:
    return None if path is None else str(directory / path)
