"""Where the promises are tried: a cache whose far tiers can be held up and broken, and others beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gated import opened, tier
from tiercache import Cache
from tiercache.testing import FakeClock

PATIENCE = 20.0
"""Seconds after which a scenario is taken for one that hangs."""


def described(
    tiers: Sequence[str] = ("memory", "shelf", "cellar"),
    *,
    kind: str = "marked",
    near: dict[str, Any] | None = None,
    far: dict[str, Any] | None = None,
    house: dict[str, Any] | None = None,
    **route: Any,
) -> dict[str, Any]:
    """Return a document: memory before two far tiers in dictionaries, and one route over *tiers*."""
    far = {"type": kind, **(far or {})}
    return {
        "cache": {"bus": "none", **(house or {})},
        "tier": {
            "memory": {"type": "memory", "max_entries": 10_000, **(near or {})},
            "shelf": dict(far),
            "cellar": dict(far),
        },
        "route": {"all": {"tiers": list(tiers), "ttl": "100s", **route}},
    }


class Scene:
    """A cache, its clock, and its far tiers."""

    def __init__(self, cache: Cache, clock: FakeClock, document: dict[str, Any]) -> None:
        self.cache = cache
        self.clock = clock
        self.document = document

    def far(self, name: str = "shelf") -> Any:
        """Return a far tier: `rows`, `gate`, `error` and `calls` are a test's to use."""
        return tier(self.cache, name)

    def hold(self, name: str = "shelf") -> asyncio.Event:
        """Hold up the calls of a far tier that arrive from now on, until what is returned is set."""
        self.far(name).gate = asyncio.Event()
        return self.far(name).gate

    def go_on(self, name: str = "shelf") -> None:
        """Let the calls that arrive from now on pass, while those that are held up wait on."""
        self.far(name).gate = asyncio.Event()
        self.far(name).gate.set()

    def route(self) -> Any:
        """Return what was counted for the one route."""
        return self.cache.stats().routes["all"]

    @asynccontextmanager
    async def another(self, clock: FakeClock | None = None, **route: Any) -> AsyncIterator[Scene]:
        """Open a second cache on the same far tiers, as another process would; *route* changes options."""
        document = {**self.document, "route": {"all": {**self.document["route"]["all"], **route}}}
        cache = opened(document, clock=clock or self.clock, plugins=["marked"])
        for name in set(cache.tiers_of("any")) - {"memory"}:
            tier(cache, name).rows = tier(self.cache, name).rows
            if hasattr(tier(self.cache, name), "markers"):
                tier(cache, name).markers = dict(tier(self.cache, name).markers)
        async with cache:
            yield Scene(cache, clock or self.clock, document)

    async def later(self, seconds: float) -> None:
        """Let what is under way end, then let time pass."""
        await settle()
        self.clock.advance(seconds)


def play(
    scenario: Callable[[Scene], Awaitable[None]], document: dict[str, Any] | None = None, **options: Any
):
    """Run *scenario* on a cache of its own, described by *document* or by what `described` takes."""
    document = document or described(**options)

    async def main() -> None:
        clock = FakeClock()
        async with (
            asyncio.timeout(PATIENCE),
            opened(document, clock=clock, plugins=["marked"]) as cache,
        ):
            await scenario(Scene(cache, clock, document))

    asyncio.run(main())


async def until(done: Callable[[], Any]) -> None:
    """Return once *done* is true; whoever plays gives up at some time."""
    while not done():
        await asyncio.sleep(0.01)


async def settle() -> None:
    """Let everything that can go on without waiting do so."""
    for _ in range(50):
        await asyncio.sleep(0)


class Source:
    """A loader that counts its calls and returns their number; it can fail, or be held up by its gate."""

    def __init__(self, value: Any = None, *, held: bool = False) -> None:
        self.value = value
        self.calls = 0
        self.at_once = self.most_at_once = 0
        self.cancelled = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        if not held:
            self.gate.set()

    async def __call__(self) -> Any:
        self.calls += 1
        value = self.calls if self.value is None else self.value
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.at_once -= 1
        if self.error is not None:
            raise self.error
        return value
