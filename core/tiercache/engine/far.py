"""One far tier as the routes see it: lanes for its calls, the codec of its frames, its abilities."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Literal

from tiercache.clock import Clock
from tiercache.contracts import (
    Counts,
    FarTier,
    Heads,
    Locks,
    Measured,
    Prompt,
    Record,
    Scans,
    Swaps,
    Wipes,
)
from tiercache.engine.batching import PromptReads, Reads, Writes
from tiercache.engine.codec import Codec
from tiercache.engine.guard import DEADLINE, Guard
from tiercache.engine.ledger import Ledger
from tiercache.engine.locks.leases import Leases
from tiercache.engine.recovery import Recovery
from tiercache.engine.stats import REASONS, TierStats
from tiercache.errors import TierError
from tiercache.frame import stamp_of

_tuple = tuple.__new__


class Far:
    """A far tier behind its guard and its lanes. Abilities are looked for once, here."""

    __slots__ = (
        "_marked", "clock", "codec", "counter", "guard", "heads", "leases", "ledger", "max_ttl", "name",
        "prefix", "reads", "recovery", "scan", "scope", "swap", "wipe", "writes",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        tier: FarTier,
        codec: Codec,
        clock: Clock,
        *,
        scope: Literal["shared", "host"],
        max_ttl: float,
        deadline: float = DEADLINE,
    ) -> None:
        self.name = name
        self.codec = codec
        self.clock = clock
        self.scope = scope
        self.max_ttl = max_ttl
        self.prefix = ""
        """What the addresses of this cache begin with."""
        self.ledger = Ledger(name, tier, clock)
        self.guard = Guard(name, tier, clock, deadline=deadline, opened=self.ledger.exchange)
        self.scan: Callable[[str], AsyncIterator[Sequence[str]]] | None = (
            tier.scan if isinstance(tier, Scans) else None
        )
        self.wipe: Callable[[str], Awaitable[None]] | None = tier.wipe if isinstance(tier, Wipes) else None
        self.swap: Callable[[Record, int | None], Awaitable[bool]] | None = (
            tier.swap if isinstance(tier, Swaps) else None
        )
        self.counter: Callable[[Record, int], Awaitable[bytes]] | None = (
            tier.increment if isinstance(tier, Counts) else None
        )
        wipes = self.wipe is not None or self.scan is not None
        self.recovery = Recovery(self.guard, clock, swap=self.swap, empty=self.empty if wipes else None)
        self.writes = Writes(self.guard, self.recovery, clock)
        self.reads = Reads(self.guard, self.recovery, self.writes, clock)
        if isinstance(tier, Prompt):
            self.reads = PromptReads(self.guard, self.recovery, self.writes, clock, tier)
        self.heads: Reads | None = None
        """Brings the first bytes of frames, once the markers are known; None where the tier can't."""
        if isinstance(tier, Heads):
            self.heads = Reads(self.guard, self.recovery, self.writes, clock, partial(self._heads, tier))
        self._marked: int | None = None
        self.leases: Leases | None = Leases(tier, clock, self.guard) if isinstance(tier, Locks) else None

    def record(
        self, address: str, frame: bytes, stale_until: int, *, conditional: bool, stamp: int | None = None
    ) -> Record:
        """Return *frame* ready for this tier: its life there is clamped, the entry's own is not.

        *stamp* is that of the frame, for who knows it.
        """
        expires_at = stale_until
        if self.max_ttl != math.inf:
            expires_at = min(expires_at, self.clock.micros() + int(self.max_ttl * 1_000_000))
        if stamp is None:
            stamp = stamp_of(frame)
        # The class's own way in is a function written in Python, and takes twice as long.
        return _tuple(Record, (address, frame, expires_at, stamp, conditional, b"", False))

    async def learn(self, address: str) -> bool:
        """Read the markers, where others have raised some; *address* is looked at. True, also where the tier
        can't be asked for that. Raises what the tier raises.
        """
        tier = self.guard.tier
        if isinstance(tier, Heads):
            await self._heads(tier, [address])
        return True

    async def _heads(self, tier: Heads, addresses: Sequence[str]) -> Sequence[bytes | None]:
        marked, heads = await tier.heads(addresses)
        if marked != self._marked:
            # Others may have raised markers that nobody has told of yet.
            await self.ledger.exchange()
            self._marked = marked
        return heads

    async def listed(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        """Yield the keys that begin with *prefix*, in chunks, each of which must come within the deadline.

        Raises TierError, which the guard has counted, where the tier fails before the end.
        """
        assert self.scan is not None
        chunks = aiter(self.scan(prefix))

        async def following() -> tuple[Sequence[str], ...]:
            # A StopAsyncIteration would be a failure to the guard.
            async for chunk in chunks:
                return (chunk,)
            return ()

        while (found := await self.guard.call(following)) != ():
            if found is None:
                raise TierError("failed while its keys were listed")
            yield found[0]

    async def empty(self) -> None:
        """Drop everything of this cache. Raises what the tier raises."""
        if self.wipe is not None:
            await self.wipe(self.prefix)
        elif self.scan is not None:
            async for chunk in self.scan(self.prefix):
                await self.guard.tier.delete(chunk)

    async def idle(self) -> None:
        """Wait until no call is in flight, and what the tier missed was tried once more."""
        await self.reads.idle()
        await self.writes.idle()
        if self.leases is not None:
            await self.leases.idle()
        await self.ledger.settle()
        self.writes.replay()
        await self.writes.idle()

    async def close(self) -> None:
        """Give up what is still in flight, and close the tier."""
        self.reads.end()
        self.writes.end()
        self.ledger.end()
        if self.leases is not None:
            self.leases.end()
        await self.guard.close()

    def stats(self) -> TierStats:
        """Return what was counted."""
        counts = self.guard.counts
        tier = self.guard.tier
        own = tier.stats() if isinstance(tier, Measured) else {}
        return TierStats(
            kind="far",
            hits=counts.hits,
            misses=counts.misses,
            promotions=counts.promotions,
            writes=counts.writes,
            deletes=counts.deletes,
            calls=counts.calls,
            seconds=counts.seconds,
            bytes_read=counts.bytes_read,
            bytes_written=counts.bytes_written,
            errors=counts.errors,
            timeouts=self.guard.timeouts,
            corrupt=counts.corrupt,
            available=self.guard.available,
            breaker=self.guard.breaker.state,
            queued=len(self.recovery) + len(self.ledger),
            evictions={reason: own[name] for name, reason in REASONS if name in own},
            own=own,
        )
