"""`cache.peek(key)` and `cache.sync.get(key)`, near hit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from bench.caches import LIFE, near, opened, shuffled
from bench.row import Cases, Result, Scale, spent

BASE = "cachebox VTTLCache"
TERMS = (
    "1,024 keys in shuffled order, loop included, processor time; a TTL with everybody. cachebox and moka-py "
    "are written in Rust."
)


def reader(get: Callable[[str], object], keys: list[str]) -> Callable[[int], None]:
    def act(passes: int) -> None:
        for _ in range(passes):
            for key in keys:
                get(key)

    return act


async def run(scale: Scale) -> list[Result]:
    keys = shuffled(scale(1024, 32))
    cases = Cases(scale)

    def add(name: str, get: Callable[[str], object]) -> None:
        cases.add(name, spent(reader(get, keys), len(keys), scale=scale))

    async with opened(near("hybrid")) as cache:
        await cache.set_many(dict.fromkeys(keys, "value"))
        add("tiercache peek", cache.peek)
        add("tiercache sync.get", cache.sync.get)
        if (cachebox := cases.peer("cachebox")) is not None:
            boxed = cachebox.VTTLCache(10_000)
            for key in keys:
                boxed.insert(key, "value", LIFE)
            add(BASE, boxed.get)
        if (moka := cases.peer("moka_py")) is not None:
            mocha = moka.Moka(10_000, ttl=LIFE)
            for key in keys:
                mocha.set(key, "value")
            add("moka-py", mocha.get)
        if (cachetools := cases.peer("cachetools")) is not None:
            timed = cachetools.TTLCache(10_000, LIFE)
            timed.update(dict.fromkeys(keys, "value"))
            add("cachetools TTL", timed.get)
        if (theine := cases.peer("theine")) is not None:
            brewed = theine.Cache(10_000, nolock=True)
            for key in keys:
                brewed.set(key, "value", timedelta(seconds=LIFE))
            add("theine", brewed.get)
        await cases.run(scale(25, 1))
        assert cache.stats().misses == 0
        peers = [name for name in ("moka-py", "cachetools TTL", "theine") if name in cases.times]
        return [
            cases.result("peek, near hit", BASE, "tiercache peek", TERMS, most=2.0, ahead_of=peers),
            cases.result("sync.get, near hit", BASE, "tiercache sync.get", TERMS, most=2.0, ahead_of=peers),
        ]
