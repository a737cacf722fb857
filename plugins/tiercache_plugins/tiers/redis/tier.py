"""The tier itself: batches of keys and records as few commands, failures as the kernel's errors."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from redis import exceptions

from tiercache import Context, Diagnosis, Record, TierRefused
from tiercache.frame import HEADER
from tiercache_plugins.tiers.redis import connect
from tiercache_plugins.tiers.redis.asking import FAILURES, Asker
from tiercache_plugins.tiers.redis.cluster import Cluster
from tiercache_plugins.tiers.redis.diagnosis import diagnose, diagnose_each
from tiercache_plugins.tiers.redis.leases import Leases, Lender
from tiercache_plugins.tiers.redis.parcels import READ_AT_ONCE, by_size, framed, marking, reading, writing
from tiercache_plugins.tiers.redis.scripts import DELETE, INCREMENT, MARK, NOW, SWAP, WRITE, Script, life
from tiercache_plugins.tiers.redis.semantics import semantics
from tiercache_plugins.tiers.redis.voice import FIELDS, MARKED, SILENT, Voice

if TYPE_CHECKING:
    from tiercache_plugins.tiers.redis import RedisConfig
    from tiercache_plugins.tiers.redis.exchange import Reply
    from tiercache_plugins.tiers.redis.line import Command

_DELETED_AT_ONCE: Final = 500
_WRITTEN_AT_ONCE: Final = 256
_LOWEST: Final = -(2**63)
_HIGHEST: Final = 2**63 - 1
# What MATCH reads as anything but itself.
_SPECIAL: Final = re.compile(r"[*?\[\]\\^\-]")


class RedisTier(Asker, Lender):
    """Frames in one Redis or Valkey, in a Cluster, or behind Sentinel. A frame is stored as it is."""

    def __init__(self, config: RedisConfig, context: Context) -> None:
        super().__init__(config, context)
        self._voice = SILENT
        # No entry has it: a key of an entry goes on behind the colon. A right to the namespace is enough.
        self._markers = f"{context.namespace}:"
        self._leases = Leases(
            context.namespace, clustered=config.mode == "cluster", run=self._evaluated, parted=self._groups
        )

    def __repr__(self) -> str:
        return f"<RedisTier {self._context.name!r} mode={self._config.mode}>"

    def semantics(self, act: str) -> Mapping[str, str | int]:
        """Return what OpenTelemetry calls a command of this server."""
        return semantics(self._config, act)

    async def diagnose(self) -> Iterable[Diagnosis]:
        """Look at version, memory, rights and clock of the server, or of each primary."""
        try:
            if isinstance(wire := self._wired(), Cluster):
                return await diagnose_each(await wire.primaries(), self._context)
            return await diagnose(partial(self._attempts, again=False), self._context)
        except FAILURES as error:
            raise self._failures.error(error) from self._failures.evidence(error)

    async def open(self) -> None:
        """Connect, and try what the tier needs.

        Raises TierRefused for a wrong password, a missing right, a certificate that does not hold, a server
        that is too old. Raises TierError where nobody answers: the kernel then starts without the tier and
        opens it again later.
        """
        if missing := connect.missing_file(self._config, self._context.directory):
            raise TierRefused(f'tier "{self._context.name}": {missing}')
        try:
            replies = await self._attempts(self._probes(), again=False)
        except FAILURES as error:
            if refusal := self._failures.refusal(error):
                raise refusal from None
            raise self._failures.error(error) from self._failures.evidence(error)
        for reply in replies:
            if isinstance(reply, BaseException) and (refusal := self._failures.refusal(reply)):
                raise refusal from None

    def announce(self, sender: bytes) -> Voice:
        """Tell of every change from now on, in the name of *sender*; return how."""
        counter = "" if self._config.mode == "cluster" else self._markers
        channel = f"{self._context.namespace}:{self._config.address.db}:changes"
        self._voice = Voice(channel.encode(), sender, counter)
        return self._voice

    async def read(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        """Return the frame of each key, by MGET. Asked once more where a connection breaks."""
        groups = self._groups(keys, READ_AT_ONCE)
        return framed(groups, await self._run(reading(groups, keys), again=True), len(keys))

    def read_soon(
        self, keys: Sequence[str], answered: Callable[[Sequence[bytes | None] | None], object]
    ) -> bool:
        """Begin what `read` does, where every server that it takes has a connection that stands ready."""
        if self._wire is None or not self._wire.known:
            return False
        groups = self._groups(keys, READ_AT_ONCE)

        def arrived(replies: list[Reply] | None, error: BaseException | None) -> None:
            if error is not None or replies is None or any(isinstance(one, Exception) for one in replies):
                answered(None)
            else:
                answered(framed(groups, replies, len(keys)))

        return self._run_soon(reading(groups, keys), arrived)

    async def write(self, records: Sequence[Record]) -> Sequence[int]:
        """Store *records* by a script that compares the stamps, calls of at most 1 MiB in one write."""
        stamps = [0] * len(records)
        groups = self._groups([record.key for record in records], _WRITTEN_AT_ONCE)
        groups = [part for group in groups for part in by_size(group, records)]
        now = self._context.clock.micros()
        parts = [[records[i] for i in group] for group in groups]
        replies = await self._scripts(*writing(parts, now, self._leases))
        for group, reply in zip(groups, replies, strict=True):
            for i, result in zip(group, reply, strict=True):
                if isinstance(result, bytes):
                    stamps[i] = int.from_bytes(result, "big")
                else:
                    stamps[i] = records[i].stamp if result > 0 else int(result)
        return stamps

    async def delete(self, keys: Sequence[str]) -> Sequence[bool]:
        """Drop *keys*, by UNLINK."""
        gone = [False] * len(keys)
        groups = self._groups(keys, _DELETED_AT_ONCE)
        replies = await self._scripts(DELETE, [([keys[i] for i in group], []) for group in groups])
        for group, reply in zip(groups, replies, strict=True):
            for i, result in zip(group, reply, strict=True):
                gone[i] = bool(result)
        return gone

    async def scan(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        """Yield the keys that begin with *prefix*, by SCAN over every primary."""
        async for found in self._keys(prefix):
            keys: list[str] = []
            for key in self._leases.apart(found):
                try:
                    keys.append(key.decode())
                except UnicodeDecodeError:
                    # Nothing of ours: keys are text.
                    self._counts["foreign_keys"] += 1
            if keys:
                yield keys

    async def wipe(self, prefix: str) -> None:
        """Drop every key that begins with *prefix*, and end such leases, in chunks: SCAN, then UNLINK."""
        leases = self._leases.prefix
        # Leases stand apart, and are met on the way only where everything is dropped.
        for pattern in (prefix,) if leases.startswith(prefix) else (prefix, leases):
            async for found in self._keys(pattern):
                gone = self._leases.apart(found, prefix)
                groups = self._groups(
                    [key.decode(errors="surrogateescape") for key in gone], _DELETED_AT_ONCE
                )
                commands: list[Command] = [("UNLINK", *(gone[i] for i in group)) for group in groups]
                await self._run(commands, again=True)

    async def swap(self, record: Record, expected: int | None) -> bool:
        """Store *record* only where the stored stamp is *expected*, or nothing stands and it is None."""
        standing = b"" if expected is None else expected.to_bytes(8, "big")
        arguments = [record.frame, life(record, self._context.clock.micros()), standing]
        return bool((await self._scripts(SWAP, [([record.key], arguments)]))[0])

    async def increment(self, record: Record, delta: int) -> bytes:
        """Add *delta* to the counter under `record.key`, exactly, in 64 bits; return its frame."""
        if not _LOWEST <= delta <= _HIGHEST:
            raise OverflowError(f"{delta} does not fit 64 bits")
        arguments = [record.frame, life(record, self._context.clock.micros()), b"%d" % delta]
        reply = (await self._scripts(INCREMENT, [([record.key], arguments)]))[0]
        if isinstance(reply, bytes):
            return reply
        if reply:
            raise OverflowError(f"adding {delta} goes beyond 64 bits")
        raise TypeError("what stands there is no counter")

    async def marks(self) -> Mapping[str, int]:
        """Return all markers of the namespace: one hash, stamps as eight bytes."""
        (reply,) = await self._run([("HGETALL", self._markers)], again=True)
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        return {name.decode(): int.from_bytes(stamp, "big") for name, stamp in pairs if name not in FIELDS}

    async def time(self) -> int:
        """Return the server's time; of a cluster, that of the primary that has the markers."""
        ((seconds, micros),) = await self._scripts(NOW, [([self._markers], [])])
        return int(seconds) * 1_000_000 + int(micros)

    async def heads(self, keys: Sequence[str]) -> tuple[int, Sequence[bytes | None]]:
        """Return how often markers rose, and the first bytes of each frame, in one write."""
        commands: list[Command] = [("HGET", self._markers, MARKED)]
        commands += [("GETRANGE", key, 0, HEADER.size - 1) for key in keys]
        count, *heads = await self._run(commands, again=True)
        return int(count or 0), [head or None for head in heads]

    async def mark(self, markers: Mapping[str, int], below: int) -> None:
        """Raise *markers* by a script that compares; drop those lower than *below*."""
        for arguments in marking(markers, below):
            await self._scripts(MARK, [([self._markers], arguments)])

    async def _keys(self, prefix: str) -> AsyncIterator[Sequence[bytes]]:
        """Yield all keys that begin with *prefix* but the markers'."""
        try:
            markers = self._markers.encode()
            async for found in self._wired().scan(_SPECIAL.sub(r"\\\g<0>", prefix) + "*"):
                yield [key for key in found if key != markers] if markers in found else found
        except FAILURES as error:
            raise self._failures.error(error) from self._failures.evidence(error)

    async def _scripts(
        self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[bytes]]]
    ) -> list[Reply]:
        """Run *script*, which tells of what it changes, for each of *calls*, keys and arguments."""
        more, voice = self._voice.keys, self._voice.arguments
        return await self._evaluated(
            script, [([*keys, *more], [*arguments, *voice]) for keys, arguments in calls]
        )

    async def _evaluated(
        self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[bytes]]]
    ) -> list[Reply]:
        """Run *script* for each of *calls*; send it where the server lacks it."""
        replies = await self._run(
            [("EVALSHA", script.digest, len(keys), *keys, *arguments) for keys, arguments in calls],
            missing=True,
        )
        lacking = [i for i, reply in enumerate(replies) if isinstance(reply, exceptions.NoScriptError)]
        if lacking:
            self._counts["scripts_sent"] += 1
            commands: list[Command] = [
                ("EVAL", script.source, len(calls[i][0]), *calls[i][0], *calls[i][1]) for i in lacking
            ]
            for i, reply in zip(lacking, await self._run(commands), strict=True):
                replies[i] = reply
        return replies

    def _probes(self) -> list[Command]:
        # Without keys the script changes nothing, and the server knows it from here on. Of several keys, one
        # is in a slot that a single node of a cluster does not hold.
        keys = [f"{self._context.namespace}:{n}" for n in range(8)]
        return [("EVAL", WRITE.source, 0, "", "", "", ""), *(("MGET", key) for key in keys)]
