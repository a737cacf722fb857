"""A far tier in a dictionary that a test can hold up, break and look into."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Literal

from tiercache import NEVER, Cache, Clock, Context, FarTierConfig, Record, hookimpl
from tiercache.cache.variants import variant
from tiercache.config.build import build
from tiercache.config.plan import plan
from tiercache.config.registry import Registry
from tiercache.frame import TOMBSTONE, restamped, stamp_of


class Gated:
    """Keeps frames in `rows`; `calls` tells what arrived, `gate` holds calls up, `error` fails them."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rows: dict[str, tuple[bytes, int]] = {}
        self.calls: list[tuple[str, list[str]]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.open_error: Exception | None = None
        self.opened = self.closed = 0

    async def open(self) -> None:
        if self.open_error is not None:
            raise self.open_error
        self.opened += 1

    async def close(self) -> None:
        self.closed += 1

    async def _pass(self, what: str, keys: list[str]) -> None:
        self.calls.append((what, keys))
        await self.gate.wait()
        if self.error is not None:
            raise self.error

    def standing(self, key: str) -> bytes | None:
        frame, expires_at = self.rows.get(key, (None, NEVER))
        return frame if expires_at > self.clock.micros() else None

    def living(self) -> set[str]:
        """Return the keys under which something stands that is no tombstone."""
        frames = {key: self.standing(key) for key in self.rows}
        return {key for key, frame in frames.items() if frame is not None and not frame[11] & TOMBSTONE}

    async def read(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        # What stands when the call arrives, so that a test can change it while the answer travels.
        found = [self.standing(key) for key in keys]
        await self._pass("read", list(keys))
        return found

    async def write(self, records: Sequence[Record]) -> Sequence[int]:
        await self._pass("write", [record.key for record in records])
        return [self._put(record) for record in records]

    def _put(self, record: Record) -> int:
        stored = self.standing(record.key)
        stamp = record.stamp
        if stored is not None and stamp_of(stored) >= stamp:
            if record.conditional:
                return 0
            stamp = stamp_of(stored) + 1
        self.rows[record.key] = (restamped(record.frame, stamp), record.expires_at)
        return stamp

    async def delete(self, keys: Sequence[str]) -> Sequence[bool]:
        await self._pass("delete", list(keys))
        there = [self.standing(key) is not None for key in keys]
        for key in keys:
            self.rows.pop(key, None)
        return there


class Able(Gated):
    """The same with the further abilities."""

    async def scan(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        await self._pass("scan", [prefix])
        yield [key for key in self.rows if key.startswith(prefix)]

    async def swap(self, record: Record, expected: int | None) -> bool:
        await self._pass("swap", [record.key])
        stored = self.standing(record.key)
        if (None if stored is None else stamp_of(stored)) != expected:
            return False
        self.rows[record.key] = (record.frame, record.expires_at)
        return True


class GatedConfig(FarTierConfig):
    """A far tier without further abilities."""

    type: Literal["gated"] = "gated"
    scope: ClassVar[Literal["shared", "host"]] = "shared"

    def build(self, context: Context) -> Gated:
        return Gated(context.clock)


class AbleConfig(FarTierConfig):
    """A far tier with them."""

    type: Literal["able"] = "able"

    def build(self, context: Context) -> Able:
        return Able(context.clock)


@hookimpl
def tiercache_tiers():
    return [GatedConfig, AbleConfig]


def opened(document: Mapping[str, Any], *, clock: Any = None, plugins: Sequence[str] = ()) -> Cache:
    """Return the cache of *document*, which may use the tier types "gated" and "able", and what the test
    modules named in *plugins* provide.
    """
    points = [EntryPoint(name, name, "tiercache") for name in ("gated", *plugins)]
    registry = Registry.load(points=[*entry_points(group="tiercache"), *points])
    house = build(plan(document, registry=registry, environ={}), Clock(clock))
    return variant(house)(house)


def tier(cache: Cache, name: str) -> Any:
    """Return the live far tier *name* of *cache*."""
    return cache._house.fars[name].guard.tier


def document(**routes: Any) -> dict[str, Any]:
    """Return a document with a memory tier, two far tiers and *routes*; without any, one with all tiers."""
    return {
        "tier": {
            "memory": {"type": "memory", "max_entries": 1000},
            "shelf": {"type": "able"},
            "cellar": {"type": "able"},
        },
        "route": routes or {"all": {"tiers": ["memory", "shelf", "cellar"], "ttl": "1h"}},
    }
