"""Locks for applications: a name that one holder at a time has, among all who share the tier."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from tiercache.clock import Clock
from tiercache.engine.locks.leases import Lease, Leases
from tiercache.errors import LockError, LockTimeout, TierUnavailable

LEAST: Final = 0.01
"""Seconds before who waits asks again for the first time."""
RARELY: Final = 0.25
"""Seconds between two questions at most."""


class Lock:
    """A lock that `Cache.lock` made: use it as `async with`, or call `acquire` and `release`.

    While it is held it is prolonged by itself, so `ttl` is not how long the work may take, but how long the
    others wait where the holder dies. It can still be lost: the tier was away, or emptied, or the event loop
    was blocked for longer than `ttl`. `lost` tells; and whoever writes with `fence`, into a store that
    refuses fences lower than one it has seen, is safe even then.

    Not reentrant: the task that holds it can't have it again, and is told so by LockError. It is granted in
    no particular order. Once released it may be acquired anew.
    """

    __slots__ = ("_address", "_chance", "_clock", "_holders", "_lease", "_leases", "_owner", "_tier", "_ttl",
                 "_wait", "name")  # fmt: skip

    def __init__(
        self,
        name: str,
        *,
        address: str,
        leases: Leases,
        clock: Clock,
        tier: str,
        ttl: float,
        wait: float | None,
        holders: dict[str, tuple[object, Lease]],
        owner: Callable[[], object] = asyncio.current_task,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        """What is locked."""
        self._address = address
        self._leases = leases
        self._clock = clock
        self._tier = tier
        self._ttl = ttl
        self._wait = wait
        self._holders = holders
        self._owner = owner
        self._chance = chance
        self._lease: Lease | None = None

    @property
    def held(self) -> bool:
        """Whether it was acquired, and nobody else can have it."""
        return self._lease is not None and self._lease.held

    @property
    def lost(self) -> bool:
        """Whether it was acquired, not released, and may be somebody else's by now."""
        return self._lease is not None and not self._lease.held

    @property
    def fence(self) -> int:
        """A number above that of everybody who had this lock before; 0 where it was not acquired."""
        return 0 if self._lease is None else self._lease.fence

    @property
    def token(self) -> bytes:
        """Random bytes that the tier knows the holder by; empty where it was not acquired."""
        return b"" if self._lease is None else self._lease.claim.token

    async def acquire(self) -> Self:
        """Wait until the lock is free, and take it.

        Raises LockTimeout where that takes longer than `wait`, LockError where this task, or this very
        object, has it already, TierUnavailable where the tier that answers for it can't.
        """
        if self._lease is not None:
            raise LockError(f"lock {self.name!r} was acquired by this object already; release it first")
        owner = self._owner()
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            holder, held = self._holders.get(self._address, (None, None))
            if held is not None and held.held and holder is owner:
                raise LockError(f"lock {self.name!r} is held by this task, which would wait for itself")
            lease = await self._ask()
            if lease:
                break
            waited = loop.time() - began
            if self._wait is not None and waited >= self._wait:
                raise LockTimeout(f"lock {self.name!r} was not free within {self._wait:g} s")
            pause = min(max(LEAST, waited / 8), RARELY) * (0.5 + self._chance() / 2)
            await asyncio.sleep(pause if self._wait is None else min(pause, self._wait - waited))
        self._lease = lease
        self._clock.observe(lease.fence)
        self._holders[self._address] = owner, lease
        return self

    async def release(self) -> bool:
        """Give the lock back; return whether it was still held. Harmless where it is not."""
        lease, self._lease = self._lease, None
        if lease is None:
            return False
        if self._holders.get(self._address, (None, None))[1] is lease:
            del self._holders[self._address]
        held = lease.held
        # It is on its way by then, also where the caller is cancelled here.
        released = await self._leases.give_back(lease)
        return held if released is None else released

    async def __aenter__(self) -> Self:
        return await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()

    def __repr__(self) -> str:
        state = "lost" if self.lost else "held" if self.held else "not held"
        return f"<Lock {self.name!r}, {state}>"

    async def _ask(self) -> Lease | None:
        brought = self._leases.ask(self._address, self._ttl, floor=self._clock.stamp())
        try:
            turn = await brought
        except asyncio.CancelledError:
            self._leases.drop(brought)
            raise
        if turn is None:
            raise TierUnavailable(f"tier {self._tier} can't be reached, and no other tier may lend a lock")
        return turn or None
