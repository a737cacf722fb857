"""Leases inside one process, for routes whose authority is the near tier."""

from __future__ import annotations

from collections.abc import Sequence

from tiercache.clock import Clock
from tiercache.contracts import Claim


class Local:
    """Lends names as a far tier does (`tiercache.Locks`). Fences are the clock's stamps, which only rise."""

    __slots__ = ("_clock", "_held")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, tuple[bytes, float, int]] = {}

    async def acquire(self, claims: Sequence[Claim]) -> list[int]:
        """Lend what is free, or held by the same token; return 0 or the fence of each."""
        return [self._acquire(claim) for claim in claims]

    def _acquire(self, claim: Claim) -> int:
        now = self._clock.monotonic()
        token, until, fence = self._held.get(claim.name, (b"", 0.0, 0))
        if token != claim.token:
            if token and now < until:
                return 0
            fence = max(claim.floor, self._clock.stamp())
        self._held[claim.name] = claim.token, now + claim.life, fence
        return fence

    async def prolong(self, claims: Sequence[Claim]) -> list[bool]:
        """Let what the tokens hold live on from now."""
        now = self._clock.monotonic()
        answers = []
        for claim in claims:
            token, until, fence = self._held.get(claim.name, (b"", 0.0, 0))
            ours = token == claim.token and now < until
            if ours:
                self._held[claim.name] = token, now + claim.life, fence
            answers.append(ours)
        return answers

    async def release(self, claims: Sequence[Claim]) -> list[bool]:
        """End what the tokens hold."""
        now = self._clock.monotonic()
        answers = []
        for claim in claims:
            token, until, _ = self._held.get(claim.name, (b"", 0.0, 0))
            if token == claim.token:
                del self._held[claim.name]
            answers.append(token == claim.token and now < until)
        return answers

    async def void(self, names: Sequence[str]) -> list[bool]:
        """End leases, whoever holds them."""
        now = self._clock.monotonic()
        return [now < self._held.pop(name, (b"", 0.0, 0))[1] for name in names]
