"""A far tier in a dictionary that lends leases, and fleets of caches that share one as processes would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar, Literal

from gated import opened, tier
from marked import Marked
from tiercache import VOID, Cache, Claim, Clock, Context, FarTierConfig, Record, hookimpl


class Leased(Marked):
    """Keeps leases in `leases` and fences in `fences`; `lease_error` fails what asks for them."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.leases: dict[str, tuple[bytes, float]] = {}
        self.fences: dict[str, int] = {}
        self.lease_error: Exception | None = None

    async def _pass(self, what: str, keys: list[str]) -> None:
        await super()._pass(what, keys)
        if self.lease_error is not None and what in {"acquire", "prolong", "release", "void"}:
            raise self.lease_error

    def holder(self, name: str) -> bytes:
        token, until = self.leases.get(name, (b"", 0.0))
        return token if self.clock.monotonic() < until else b""

    def _put(self, record: Record) -> int:
        if record.lease and record.lease != VOID and self.holder(record.key) != record.lease:
            return -1
        if record.lease:
            self.leases.pop(record.key, None)
        return super()._put(record)

    async def acquire(self, claims: Sequence[Claim]) -> list[int]:
        answers = []
        for claim in claims:
            holder = self.holder(claim.name)
            if holder and holder != claim.token:
                answers.append(0)
                continue
            if not holder and claim.floor:
                self.fences[claim.name] = max(claim.floor, self.fences.get(claim.name, 0) + 1)
            self.leases[claim.name] = claim.token, self.clock.monotonic() + claim.life
            answers.append(self.fences.get(claim.name, 1))
        # Done before the answer travels, so that a test can lose the answer alone.
        await self._pass("acquire", [claim.name for claim in claims])
        return answers

    async def prolong(self, claims: Sequence[Claim]) -> list[bool]:
        await self._pass("prolong", [claim.name for claim in claims])
        answers = [self.holder(claim.name) == claim.token for claim in claims]
        for claim, ours in zip(claims, answers, strict=True):
            if ours:
                self.leases[claim.name] = claim.token, self.clock.monotonic() + claim.life
        return answers

    async def release(self, claims: Sequence[Claim]) -> list[bool]:
        await self._pass("release", [claim.name for claim in claims])
        answers = [self.holder(claim.name) == claim.token for claim in claims]
        for claim, ours in zip(claims, answers, strict=True):
            if ours:
                del self.leases[claim.name]
        return answers

    async def void(self, names: Sequence[str]) -> list[bool]:
        await self._pass("void", list(names))
        there = [bool(self.holder(name)) for name in names]
        for name in names:
            self.leases.pop(name, None)
        return there

    async def wipe(self, prefix: str) -> None:
        await self._pass("wipe", [prefix])
        for held in (self.rows, self.leases):
            for name in [name for name in held if name.startswith(prefix)]:
                del held[name]


class LeasedConfig(FarTierConfig):
    """A far tier with leases."""

    type: Literal["leased"] = "leased"
    scope: ClassVar[Literal["shared", "host"]] = "shared"

    def build(self, context: Context) -> Leased:
        return Leased(context.clock)


@hookimpl
def tiercache_tiers():
    return [LeasedConfig]


def leased(**options: Any) -> dict[str, Any]:
    """Return a document with a memory tier, one that lends leases, and one behind it."""
    return {
        "tier": {
            "memory": {"type": "memory", "max_entries": 1000},
            "shelf": {"type": "leased"},
            "cellar": {"type": "able"},
        },
        "route": {"all": {"tiers": ["memory", "shelf"], "ttl": "1h", "lock": True, **options}},
    }


@asynccontextmanager
async def fleet(size: int, *clocks: Any, document: Any = None, **options: Any) -> AsyncIterator[list[Cache]]:
    """Open *size* caches that share the tier "shelf", each with the clock of its place in *clocks*."""
    async with AsyncExitStack() as stack:
        caches = [
            opened(
                leased(**options) if document is None else document,
                clock=clocks[min(i, len(clocks) - 1)] if clocks else None,
                plugins=("marked", "leased"),
            )
            for i in range(size)
        ]
        for cache in caches:
            shelf, first = tier(cache, "shelf"), tier(caches[0], "shelf")
            shelf.rows, shelf.leases, shelf.fences = first.rows, first.leases, first.fences
            shelf.markers = first.markers
            # One clock counts the lives of leases, as a server's does.
            shelf.clock = first.clock
            await stack.enter_async_context(cache)
        yield caches
