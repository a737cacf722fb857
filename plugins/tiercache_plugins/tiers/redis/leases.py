"""Leases in Redis: one key for each that is held, which the server drops when its life is over.

They stand in the namespace, behind a character that no key of an entry has, so that a right to the namespace
is enough. In a cluster the lease of an entry must be in the entry's slot, since one script changes both.

The guarantee is that of one server: a failover to a replica that had not heard of a lease yet lends it a
second time. Whoever can't bear that compares fences, which only rise, where the work is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import count
from typing import Any, Final

from redis.crc import key_slot

from tiercache import Claim
from tiercache_plugins.tiers.redis.scripts import ACQUIRE, PROLONG, RELEASE, VOID, Script

REMEMBERED: Final = 86_400_000
"""Milliseconds for which the fence of a name is remembered: beyond that, clocks are to agree."""
_AT_ONCE: Final = 256

Calls = Sequence[tuple[Sequence[str], Sequence[bytes]]]


class Leases:
    """The leases of one namespace. *run* runs a script for calls of keys and arguments; *parted* parts keys
    into groups that one call may name.
    """

    __slots__ = ("_clustered", "_holders", "_parted", "_run", "prefix")

    def __init__(
        self,
        namespace: str,
        *,
        clustered: bool,
        run: Callable[[Script, Calls], Awaitable[list[Any]]],
        parted: Callable[[Sequence[str], int], list[Sequence[int]]],
    ) -> None:
        self.prefix = f"{namespace}:\0"
        """What all keys begin with that are kept here."""
        self._holders = f"{self.prefix}h"
        self._clustered = clustered
        self._run = run
        self._parted = parted

    def holder(self, name: str) -> str:
        """Return the key that holds the token of whoever has *name*."""
        return f"{self._holders}{self._slotted(name)}"

    def apart(self, keys: Sequence[bytes], prefix: str | None = None) -> list[bytes]:
        """Return *keys* without those of leases, but for leases whose names begin with *prefix*."""
        own = self.prefix.encode()
        return [
            key
            for key in keys
            if not key.startswith(own) or (prefix is not None and self._covered(key, prefix))
        ]

    def _covered(self, key: bytes, prefix: str) -> bool:
        text = key.decode(errors="surrogateescape")
        if not text.startswith(self._holders):
            return False
        name = text[len(self._holders) :]
        return (name[name.index("}") + 1 :] if self._clustered else name).startswith(prefix)

    async def acquire(self, claims: Sequence[Claim]) -> list[int]:
        """Lend what is free, or held by the same token; return 0 or the fence of each."""
        replies = await self._each(
            ACQUIRE,
            [claim.name for claim in claims],
            lambda i: (self.holder(claims[i].name), f"{self.prefix}f{self._slotted(claims[i].name)}"),
            lambda i: (
                claims[i].token,
                _milliseconds(claims[i]),
                claims[i].floor.to_bytes(8, "big") if claims[i].floor else b"",
            ),
            b"%d" % REMEMBERED,
        )
        return [int.from_bytes(each, "big") if isinstance(each, bytes) else int(each) for each in replies]

    async def prolong(self, claims: Sequence[Claim]) -> list[bool]:
        """Let what the tokens hold live on from the server's now."""
        replies = await self._each(
            PROLONG,
            [claim.name for claim in claims],
            lambda i: (self.holder(claims[i].name),),
            lambda i: (claims[i].token, _milliseconds(claims[i])),
        )
        return [bool(each) for each in replies]

    async def release(self, claims: Sequence[Claim]) -> list[bool]:
        """End what the tokens hold."""
        replies = await self._each(
            RELEASE,
            [claim.name for claim in claims],
            lambda i: (self.holder(claims[i].name),),
            lambda i: (claims[i].token,),
        )
        return [bool(each) for each in replies]

    async def void(self, names: Sequence[str]) -> list[bool]:
        """End leases, whoever holds them."""
        replies = await self._each(VOID, names, lambda i: (self.holder(names[i]),), lambda _: ())
        return [bool(each) for each in replies]

    async def _each(
        self,
        script: Script,
        names: Sequence[str],
        keys: Callable[[int], Iterable[str]],
        arguments: Callable[[int], Iterable[bytes]],
        *first: bytes,
    ) -> list[Any]:
        answers: list[Any] = [0] * len(names)
        # By the name, whose slot its keys share.
        groups = self._parted(names, _AT_ONCE)
        calls = [
            (
                [key for i in group for key in keys(i)],
                [*first, *(argument for i in group for argument in arguments(i))],
            )
            for group in groups
        ]
        for group, replies in zip(groups, await self._run(script, calls), strict=True):
            for i, reply in zip(group, replies, strict=True):
                answers[i] = reply
        return answers

    def _slotted(self, name: str) -> str:
        """Return *name* with something in front that puts a key into its slot, where there are slots."""
        return f"{{{_tag(name)}}}{name}" if self._clustered else name


class Lender:
    """The part of the tier that lends names."""

    _leases: Leases

    async def acquire(self, claims: Sequence[Claim]) -> Sequence[int]:
        """Lend names, by a script that compares; the server ends what is not prolonged."""
        return await self._leases.acquire(claims)

    async def prolong(self, claims: Sequence[Claim]) -> Sequence[bool]:
        """Prolong what the tokens hold, from the server's now on."""
        return await self._leases.prolong(claims)

    async def release(self, claims: Sequence[Claim]) -> Sequence[bool]:
        """End what the tokens hold."""
        return await self._leases.release(claims)

    async def void(self, names: Sequence[str]) -> Sequence[bool]:
        """End leases, whoever holds them."""
        return await self._leases.void(names)


def _tag(name: str) -> str:
    """Return what between braces has the slot of *name*."""
    opened = name.find("{")
    closed = name.find("}", opened + 1) if opened >= 0 else -1
    if closed > opened + 1:
        return name[opened + 1 : closed]
    if "}" not in name:
        return name
    # It can't stand between braces itself: the first number of the same slot does, among some 16,384.
    slot = key_slot(name.encode())
    return next(str(n) for n in count() if key_slot(b"%d" % n) == slot)


def _milliseconds(claim: Claim) -> bytes:
    return b"%d" % max(1, int(claim.life * 1000))
