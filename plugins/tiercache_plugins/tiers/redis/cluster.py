"""The wire to a cluster: each command goes to the primary of its slot, those of one primary in one write.

The driver keeps the map of the slots and follows redirections; the commands themselves go over a `Line` a
primary, because the driver's own pipeline takes some 20 µs of Python a command and does not look whether a
pooled connection is still alive.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis import asyncio as driver
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, RedisClusterException, RedisError, ResponseError
from redis.exceptions import ConnectionError as Disconnected

from tiercache_plugins.tiers.redis.connect import connection_options, known, line_to
from tiercache_plugins.tiers.redis.exchange import Arrive, Reply
from tiercache_plugins.tiers.redis.line import Command, Line, redirects

if TYPE_CHECKING:
    from tiercache_plugins.tiers.redis import RedisConfig


class Cluster:
    """The wire to all primaries of a cluster."""

    def __init__(self, config: RedisConfig, directory: Path) -> None:
        self._config = config
        self._directory = directory
        options = {
            **connection_options(config, directory),
            "ssl": config.address.tls,
            "max_connections": config.connections,
            "require_full_coverage": False,
        }
        del options["db"]
        self._client: Any = driver.RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in config.servers()],
            **known(driver.RedisCluster.__init__, options),
        )
        self._lines: dict[tuple[str, int], Line] = {}
        self._closed = False
        self.known = False
        """Whether the map was asked for since it was last found wrong."""
        # A call may have to ask for the map of the cluster before it can ask its question.
        self._deadline = 2 * config.timeout

    def place(self, key: str) -> Hashable:
        """Return the slot of *key*."""
        # Foreign keys, which a wipe meets, need not be text.
        return key_slot(key.encode(errors="surrogateescape"))

    async def run(self, commands: Sequence[Command]) -> list[Reply]:
        """Send *commands*, to all the primaries they concern at the same time."""
        try:
            return await self._run(commands)
        finally:
            if self._closed:
                # The map may have been asked for while everything was being closed.
                await self._client.aclose()

    async def _run(self, commands: Sequence[Command]) -> list[Reply]:
        async with asyncio.timeout(self._deadline):
            await self._client.initialize()
            self.known = True
            groups = self._by_line(commands)
            replies: list[Reply] = [None] * len(commands)
            answers = await asyncio.gather(
                *(line.run([commands[i] for i in group]) for line, group in groups.items()),
                return_exceptions=True,
            )
            for group, answer in zip(groups.values(), answers, strict=True):
                if isinstance(answer, BaseException):
                    raise answer
                for i, reply in zip(group, answer, strict=True):
                    replies[i] = reply
            for i, reply in enumerate(replies):
                if redirects(reply):
                    replies[i] = await self._redirected(commands[i])
                elif isinstance(reply, ResponseError) and _down(reply):
                    raise ClusterDownError(str(reply))
        return replies

    def soon(self, commands: Sequence[Command], arrive: Arrive) -> bool:
        """Do what `run` does, and call *arrive*; return False where a connection is missing.

        What the map was wrong about is an error here: `run` follows redirections.
        """
        replies: list[Reply] = [None] * len(commands)
        try:
            groups = self._by_line(commands)
        except (RedisError, RedisClusterException):
            return False
        left = len(groups)
        failure: BaseException | None = None

        def arrived(group: list[int], answer: list[Reply] | None, error: BaseException | None) -> None:
            nonlocal left, failure
            left -= 1
            failure = failure or error
            for i, reply in zip(group, answer or (), strict=answer is not None):
                replies[i] = reply
                if redirects(reply):
                    failure = reply
            if not left:
                arrive(None if failure else replies, failure)

        begun = False
        for line, group in groups.items():
            if line.soon([commands[i] for i in group], partial(arrived, group)):
                begun = True
            elif begun:
                # The others have been asked: what they answer is not enough.
                arrived(group, None, Disconnected("a connection is missing"))
            else:
                return False
        return begun

    async def scan(self, pattern: str) -> AsyncIterator[Sequence[bytes]]:
        """Yield the keys that match, primary by primary."""
        async with asyncio.timeout(self._deadline):
            await self._client.initialize()
        for node in self._client.get_primaries():
            async for keys in self._line_to(node).scan(pattern):
                yield keys

    async def everywhere(self, command: Callable[[int], Command]) -> int:
        """Send what *command* gives for its number to each primary; return how many there are."""
        async with asyncio.timeout(self._deadline):
            await self._client.initialize()
            lines = [self._line_to(node) for node in self._client.get_primaries()]
            replies = await asyncio.gather(*(line.run([command(n)]) for n, line in enumerate(lines)))
        for (reply,) in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return len(lines)

    async def primaries(self) -> Mapping[str, Callable[[Sequence[Command]], Awaitable[list[Reply]]]]:
        """Return what sends commands to each primary, whatever their keys, by its address."""
        async with asyncio.timeout(self._deadline):
            await self._client.initialize()
        nodes = sorted(self._client.get_primaries(), key=lambda node: (node.host, node.port))
        return {f"{node.host}:{node.port}": self._line_to(node).run for node in nodes}

    async def another(self) -> AbstractConnection:
        """Return a new connection to one of the primaries: the nodes pass messages on."""
        async with asyncio.timeout(self._deadline):
            await self._client.initialize()
        return await self._line_to(random.choice(self._client.get_primaries())).another()  # noqa: S311 - any

    async def refresh(self) -> None:
        """Forget where the keys are; the next call asks."""
        self.known = False
        await self._client.aclose()

    async def close(self) -> None:
        """Close every connection."""
        self._closed, self.known = True, False
        closing = [line.close() for line in self._lines.values()]
        await asyncio.gather(self._client.aclose(), *closing)

    async def _redirected(self, command: Command) -> Reply:
        """Run *command* by the driver, which follows MOVED and ASK and corrects its map."""
        try:
            return await self._client.execute_command(*command)
        except ResponseError as error:
            return error

    def _by_line(self, commands: Sequence[Command]) -> dict[Line, list[int]]:
        """Return the places of *commands* by the line each goes over."""
        groups: dict[Line, list[int]] = {}
        for i, command in enumerate(commands):
            groups.setdefault(self._line(command), []).append(i)
        return groups

    def _line(self, command: Command) -> Line:
        """Return the line to the primary that *command* belongs to: by its first key, or any."""
        key = command[3] if command[0] in ("EVAL", "EVALSHA") and command[2] else command[1]
        data = key if isinstance(key, bytes) else str(key).encode()
        node = self._client.nodes_manager.get_node_from_slot(key_slot(data))
        if node is None:
            raise Disconnected("no primary is known for a slot")
        return self._line_to(node)

    def _line_to(self, node: Any) -> Line:
        if self._closed:
            raise Disconnected("closed")
        line = self._lines.get((node.host, node.port))
        if line is None:
            line = line_to(self._config, self._directory, node.host, node.port)
            self._lines[node.host, node.port] = line
        return line


def _down(reply: ResponseError) -> bool:
    return isinstance(reply, ClusterDownError) or str(reply).startswith("CLUSTERDOWN ")
