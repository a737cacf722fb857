"""`await cache.get(key)`, near hit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bench.caches import LIFE, near, opened, shuffled
from bench.row import Cases, Result, Scale, awaited

BASE = "async dict.get"
TERMS = (
    "1,024 keys in shuffled order, loop included, processor time. Ours judge the TTL to 20 ms and count "
    "each hit; cashews and aiocache have TTLs and no bound, py-key-value copies through JSON; the base "
    "has nothing. Beyond 65,536 entries the near tier is several dictionaries, and a hit finds its own "
    "first."
)


class Bare:
    """The floor: an async method of the same signature around a dict."""

    def __init__(self, held: dict[str, object]) -> None:
        self._held = held

    async def get(self, key, default=None, route=None, as_type=None):
        return self._held.get(key, default)


def reader(get: Callable[[str], Awaitable[object]], keys: list[str]) -> Callable[[int], Awaitable[None]]:
    async def act(passes: int) -> None:
        for _ in range(passes):
            for key in keys:
                await get(key)

    return act


async def run(scale: Scale) -> list[Result]:
    keys = shuffled(scale(1024, 32))
    cases = Cases(scale)

    def add(name: str, get: Callable[[str], Awaitable[object]]) -> None:
        cases.add(name, awaited(reader(get, keys), len(keys), scale=scale))

    add(BASE, Bare(dict.fromkeys(keys, "value")).get)
    async with (
        opened(near("hybrid")) as hybrid,
        opened(near("lru")) as lru,
        opened(near(size=100_000)) as large,
    ):
        for cache in (hybrid, lru, large):
            await cache.set_many(dict.fromkeys(keys, "value"))
        add("tiercache hybrid", hybrid.get)
        add("tiercache lru", lru.get)
        add("tiercache hybrid, bound 100,000", large.get)
        if (cashews := cases.peer("cashews")) is not None:
            peer = cashews.Cache()
            peer.setup("mem://?size=10000")
            for key in keys:
                await peer.set(key, "value", expire=LIFE)
            add("cashews", peer.get)
        if (aiocache := cases.peer("aiocache")) is not None:
            other = aiocache.SimpleMemoryCache()
            for key in keys:
                await other.set(key, "value", ttl=LIFE)
            add("aiocache", other.get)
        if (stores := cases.peer("key_value.aio.stores.memory")) is not None:
            store = stores.MemoryStore(max_entries_per_collection=10_000)
            for key in keys:
                await store.put(key=key, value={"v": "value"}, ttl=LIFE)
            add("py-key-value", store.get)
        await cases.run(scale(25, 1))
        assert hybrid.stats().misses == lru.stats().misses == 0
        peers = [name for name in ("cashews", "aiocache", "py-key-value") if name in cases.times]
        return [
            cases.result("get, near hit, hybrid", BASE, "tiercache hybrid", TERMS, most=1.6, ahead_of=peers),
            cases.result("get, near hit, lru", BASE, "tiercache lru", TERMS, most=2.1, ahead_of=peers),
        ]
