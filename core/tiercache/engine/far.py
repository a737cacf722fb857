"""One far tier as the routes see it: lanes for its calls, the codec of its frames, its abilities."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Literal

from tiercache.clock import Clock
from tiercache.contracts import Counts, FarTier, Measured, Record, Scans, Swaps, Wipes
from tiercache.engine.batching import Reads, Writes
from tiercache.engine.codec import Codec
from tiercache.engine.guard import Guard
from tiercache.engine.stats import TierStats
from tiercache.frame import stamp_of


class Far:
    """A far tier behind its guard and its lanes. Abilities are looked for once, here."""

    __slots__ = (
        "clock", "codec", "counter", "guard", "max_ttl", "name", "reads", "scan", "scope", "swap",
        "wipe", "writes",
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
    ) -> None:
        self.name = name
        self.codec = codec
        self.clock = clock
        self.scope = scope
        self.max_ttl = max_ttl
        self.guard = Guard(name, tier, clock)
        self.reads = Reads(self.guard)
        self.writes = Writes(self.guard)
        self.scan: Callable[[str], AsyncIterator[Sequence[str]]] | None = (
            tier.scan if isinstance(tier, Scans) else None
        )
        self.wipe: Callable[[str], Awaitable[None]] | None = tier.wipe if isinstance(tier, Wipes) else None
        self.swap: Callable[[Record, int | None], Awaitable[bool]] | None = (
            tier.swap if isinstance(tier, Swaps) else None
        )
        self.counter: Callable[[Record, int], Awaitable[int]] | None = (
            tier.increment if isinstance(tier, Counts) else None
        )

    def record(self, address: str, frame: bytes, stale_until: int, *, conditional: bool) -> Record:
        """Return *frame* ready for this tier: its life there is clamped, the entry's own is not."""
        expires_at = stale_until
        if self.max_ttl != math.inf:
            expires_at = min(expires_at, self.clock.micros() + int(self.max_ttl * 1_000_000))
        return Record(address, frame, expires_at, stamp_of(frame), conditional)

    async def idle(self) -> None:
        """Wait until no call is in flight."""
        await self.reads.idle()
        await self.writes.idle()

    def stats(self) -> TierStats:
        """Return what was counted."""
        counts = self.guard.counts
        tier = self.guard.tier
        return TierStats(
            kind="far",
            hits=counts.hits,
            misses=counts.misses,
            promotions=counts.promotions,
            writes=counts.writes,
            deletes=counts.deletes,
            errors=counts.errors,
            corrupt=counts.corrupt,
            available=self.guard.available,
            own=tier.stats() if isinstance(tier, Measured) else {},
        )
