"""The bus of a Redis tier: listens to the channel on a connection of its own, and proves that it hears."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Final

from redis import exceptions

from tiercache import Context, Listener, TierError, Undecodable
from tiercache_plugins.tiers.redis.line import Command, cut
from tiercache_plugins.tiers.redis.scripts import BEAT
from tiercache_plugins.tiers.redis.voice import SENDER, changes, parsed

if TYPE_CHECKING:
    from tiercache_plugins.tiers.redis.tier import RedisTier

BEATS: Final = 4
"""Heartbeats a lease."""
_FAILURES: Final = (exceptions.RedisError, exceptions.RedisClusterException, OSError, TimeoutError)


class RedisBus:
    """Follows one `RedisTier`."""

    def __init__(self, tier: RedisTier, context: Context) -> None:
        self._tier = tier
        self._name = context.name
        self._sender = os.urandom(SENDER)
        self._voice = tier.announce(self._sender)
        self._number: int | None = None
        self._beat = 0
        self._sent: dict[int, tuple[float, set[int]]] = {}
        self._primaries = 0
        self._confirmed = 0.0

    async def follow(self, listener: Listener) -> None:
        """Listen until the connection breaks, or nothing of one's own comes back for a lease."""
        try:
            await self._follow(listener)
        except _FAILURES as error:
            if refusal := self._tier.failures.refusal(error):
                raise refusal from None
            raise self._tier.failures.error(error) from self._tier.failures.evidence(error)

    async def close(self) -> None:
        """Nothing is kept beyond `follow`."""

    async def _follow(self, listener: Listener) -> None:
        connection: Any = await self._tier.wire().another()
        # What nobody changes is not told of: silence is no failure here.
        connection.socket_timeout = None
        try:
            async with asyncio.timeout(self._tier.timeout):
                await connection.connect()
                await connection.send_command("SUBSCRIBE", self._voice.channel)
                await self._next(connection)
            listener.lost()
            self._number = None
            self._sent.clear()
            self._confirmed = listener.now()
            tasks = {
                asyncio.ensure_future(self._hear(connection, listener)),
                asyncio.ensure_future(self._speak(listener)),
            }
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for task in done:
                task.result()
        finally:
            await cut(connection)

    @staticmethod
    async def _next(connection: Any) -> Any:
        return await connection.read_response(push_request=True)

    async def _hear(self, connection: Any, listener: Listener) -> None:
        while True:
            reply = await self._next(connection)
            if isinstance(reply, Exception):
                raise reply
            if not isinstance(reply, list) or len(reply) != 3 or reply[0] != b"message":
                continue
            try:
                self._heard(reply[2], listener)
            except Undecodable:
                # Not ours, or damaged: whatever it was to say was not told.
                listener.lost()

    def _heard(self, data: bytes, listener: Listener) -> None:
        message = parsed(data)
        beat = message.kind == b"b"
        if self._voice.counter:
            expected = self._number if beat or self._number is None else self._number + 1
            if expected is not None and message.number != expected:
                listener.lost()
            self._number = message.number
        if message.sender == self._sender:
            if beat:
                self._returned(message.rest, listener)
        elif message.kind == b"c":
            listener.changed(changes(message.rest))
        elif message.kind == b"m":
            listener.marked(dict(changes(message.rest)))

    def _returned(self, rest: bytes, listener: Listener) -> None:
        """Count a heartbeat of one's own; once it has come through every primary, it is a proof."""
        beat, primary = int.from_bytes(rest[:8], "big"), int.from_bytes(rest[8:], "big")
        if beat not in self._sent:
            return
        sent, through = self._sent[beat]
        through.add(primary)
        if len(through) >= self._primaries > 0:
            for older in [number for number in self._sent if number <= beat]:
                del self._sent[older]
            self._confirmed = sent
            listener.confirmed(sent, self._number)

    async def _speak(self, listener: Listener) -> None:
        while True:
            self._beat += 1
            sent = listener.now()
            self._sent[self._beat] = sent, set()
            try:
                self._primaries = await self._tier.wire().everywhere(self._heartbeat)
            except (TierError, *_FAILURES) as error:
                # One that is lost is made good by the next; a connection that was cut is made anew.
                if self._tier.failures.refusal(error):
                    raise
            else:
                self._check(self._beat, listener)
            if listener.now() - self._confirmed > listener.lease:
                raise TierError(f'bus "{self._name}": no heartbeat has come back for a lease')
            await asyncio.sleep(listener.lease / BEATS)

    def _heartbeat(self, primary: int) -> Command:
        """Return the command that sends the heartbeat through a primary, to come back with its number."""
        keys = self._voice.keys
        back = self._beat.to_bytes(8, "big") + primary.to_bytes(2, "big")
        return ("EVAL", BEAT.source, len(keys), *keys, back, *self._voice.arguments)

    def _check(self, beat: int, listener: Listener) -> None:
        """Look whether *beat* came back before it was known through how many primaries it went."""
        if beat in self._sent:
            sent, through = self._sent[beat]
            if len(through) >= self._primaries:
                del self._sent[beat]
                self._confirmed = sent
                listener.confirmed(sent, self._number)
