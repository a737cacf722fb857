"""How the tier asks: of which server, over what, how often, and what a failure comes to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from redis import exceptions

from tiercache import Context, TierError
from tiercache_plugins.tiers.redis import connect
from tiercache_plugins.tiers.redis.cluster import Cluster
from tiercache_plugins.tiers.redis.failures import Failures

if TYPE_CHECKING:
    from tiercache_plugins.tiers.redis import RedisConfig
    from tiercache_plugins.tiers.redis.exchange import Arrive, Reply
    from tiercache_plugins.tiers.redis.line import Command, Wire

FAILURES: Final = (exceptions.RedisError, exceptions.RedisClusterException, OSError, TimeoutError)
"""What the driver raises."""


class Asker:
    """Sends commands to the server or servers of one tier.

    Connections are made when they are needed, so a server that went away and came back is found again
    without being told; until then every call ends in TierError.
    """

    def __init__(self, config: RedisConfig, context: Context) -> None:
        self._config = config
        self._context = context
        username, password = config.credentials()
        sentinel = config.sentinel_password.get_secret_value() if config.sentinel_password else None
        self._failures = Failures(context.name, (username, password, config.sentinel_username, sentinel))
        self._wire: Wire | None = None
        self._closed = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._counts = {"calls": 0, "retries": 0, "scripts_sent": 0, "foreign_keys": 0}

    def stats(self) -> Mapping[str, int]:
        """Return how often what was done: calls, retries, scripts that the server had forgotten."""
        return dict(self._counts)

    @property
    def timeout(self) -> float:
        """Seconds that connecting, or one answer, may take."""
        return self._config.timeout

    @property
    def failures(self) -> Failures:
        """What makes the kernel's errors of the driver's."""
        return self._failures

    def wire(self) -> Wire:
        """Return the way to the server or servers. Raises TierError once the tier is closed."""
        return self._wired()

    async def close(self) -> None:
        """Close every connection; calls under way end in TierError."""
        self._closed = True
        if self._wire is None:
            return
        try:
            async with asyncio.timeout(2 * self._config.timeout):
                await self._wire.close()
                if self._under_way:
                    await self._idle.wait()
        except FAILURES as error:
            raise self._failures.error(error) from self._failures.evidence(error)

    def _groups(self, keys: Sequence[str], limit: int) -> list[Sequence[int]]:
        """Return the places of *keys* in groups that one command may name."""
        if self._config.mode != "cluster":
            return [range(i, min(i + limit, len(keys))) for i in range(0, len(keys), limit)]
        place = self._wired().place
        groups: dict[Any, list[int]] = {}
        for i, key in enumerate(keys):
            groups.setdefault(place(key), []).append(i)
        return [group[i : i + limit] for group in groups.values() for i in range(0, len(group), limit)]

    async def _run(
        self, commands: Sequence[Command], *, again: bool = False, missing: bool = False
    ) -> list[Reply]:
        """Run *commands*; once more where *again*, should the connection break; raise the kernel's errors."""
        if not commands:
            return []
        self._counts["calls"] += 1
        try:
            replies = await self._attempts(commands, again=again)
        except FAILURES as error:
            raise self._failures.error(error) from self._failures.evidence(error)
        for reply in replies:
            if isinstance(reply, BaseException) and not (
                missing and isinstance(reply, exceptions.NoScriptError)
            ):
                raise self._failures.error(reply) from self._failures.evidence(reply)
        return replies

    def _run_soon(self, commands: Sequence[Command], arrive: Arrive) -> bool:
        """Send *commands* where that takes no waiting, and call *arrive*; return whether they were sent."""

        def arrived(replies: list[Reply] | None, error: BaseException | None) -> None:
            self._ended()
            arrive(replies, error)

        if self._wire is None or not self._wire.soon(commands, arrived):
            return False
        self._counts["calls"] += 1
        self._under_way += 1
        return True

    async def _attempts(self, commands: Sequence[Command], *, again: bool) -> list[Reply]:
        self._under_way += 1
        try:
            return await self._attempted(commands, again=again)
        finally:
            self._ended()

    def _ended(self) -> None:
        self._under_way -= 1
        if self._closed and not self._under_way:
            self._idle.set()

    async def _attempted(self, commands: Sequence[Command], *, again: bool) -> list[Reply]:
        wire = self._wired()
        try:
            return await wire.run(commands)
        except FAILURES as error:
            if self._closed:
                raise
            await wire.refresh()
            # A server that does not answer in time is not asked again: that would take as long once more.
            broken = isinstance(error, (exceptions.ConnectionError, exceptions.ClusterDownError))
            if not again or not broken or isinstance(error, exceptions.AuthenticationError):
                raise
        if self._closed:
            raise TierError(f'tier "{self._context.name}": closed')
        self._counts["retries"] += 1
        return await wire.run(commands)

    def _wired(self) -> Wire:
        if self._closed:
            raise TierError(f'tier "{self._context.name}": closed')
        if self._wire is None:
            wire = Cluster if self._config.mode == "cluster" else connect.line
            self._wire = wire(self._config, self._context.directory)
        return self._wire
