"""Insertion into a full near tier, so that each makes another go."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from datetime import timedelta
from time import process_time
from typing import Any

from bench.caches import LIFE, near, opened
from bench.row import Cases, Result, Round, Scale
from tiercache import Entry, PolicyConfig, Terms
from tiercache_plugins.policies.hybrid import HybridConfig
from tiercache_plugins.policies.lru import LruConfig
from tiercache_plugins.tiers.memory.tier import MemoryTier

BASE = "OrderedDict LRU"
_ALIVE = 12
"""Rounds for which keys outlive their own: more than there are, so that nobody pays for their end."""
NEAR = (
    "20,000 entries held, every key new, and hashed before; processor time, collector on. The base is a "
    "class around an OrderedDict: no TTL, no lock, no stamps. Ours here is the memory tier, entry made and "
    "put, for any number of threads. cachetools, cachebox and theine likewise keep a TTL; cachebox is Rust, "
    "and FIFO."
)
WHOLE = (
    "The same through `await cache.set`: key checked, route found, stamp given, flights detached, counted. "
    "The base is an async method of the same signature around an OrderedDict LRU."
)


class Lru:
    """The LRU that everybody writes: an OrderedDict, and a method."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held: OrderedDict[str, object] = OrderedDict()

    def put(self, key: str, value: object) -> None:
        held = self.held
        if key in held:
            held.move_to_end(key)
        elif len(held) >= self.capacity:
            held.popitem(last=False)
        held[key] = value

    async def set(self, key, value, *, route=None, ttl=None, stale=None, tags=()):
        held = self.held
        if key in held:
            held.move_to_end(key)
        elif len(held) >= self.capacity:
            held.popitem(last=False)
        held[key] = value


class Keys:
    """Keys that nobody has met before, made and hashed while no clock runs, alive until it has stopped."""

    def __init__(self, held: int) -> None:
        self._held = held
        self._turn = 0
        self._made: deque[list[str]] = deque(maxlen=_ALIVE)

    def next(self) -> list[str]:
        self._turn += 1
        keys = [f"user:{self._turn}:{at}" for at in range(self._held)]
        set(keys)
        self._made.append(keys)
        return keys


def _round(act: Callable[[list[str]], Awaitable[object]], held: int) -> Round:
    """Return a round that puts *held* keys, all new."""
    keys = Keys(held)

    async def measured() -> float:
        new = keys.next()
        began = process_time()
        await act(new)
        return (process_time() - began) / held

    return measured


async def run(scale: Scale) -> list[Result]:
    held = scale(20_000, 100)
    return [await _near(scale, held), await _whole(scale, held)]


async def _near(scale: Scale, held: int) -> Result:
    cases = Cases(scale)

    def add(name: str, put: Callable[[str, Any], object]) -> None:
        async def act(keys: list[str]) -> None:
            for key in keys:
                put(key, key)

        cases.add(name, _round(act, held))

    def add_tier(name: str, config: PolicyConfig) -> None:
        # Written out: what makes the entry is not one more call.
        terms, put = Terms("bench"), MemoryTier(config, held).put

        async def act(keys: list[str]) -> None:
            for key in keys:
                put(Entry(key, key, 1, LIFE, terms))

        cases.add(name, _round(act, held))

    add(BASE, Lru(held).put)
    add_tier("tiercache hybrid", HybridConfig())
    add_tier("tiercache lru", LruConfig())
    if (cachetools := cases.peer("cachetools")) is not None:
        add("cachetools LRU, no TTL", cachetools.LRUCache(held).__setitem__)
        add("cachetools TTL", cachetools.TTLCache(held, LIFE).__setitem__)
    if (cachebox := cases.peer("cachebox")) is not None:
        insert = cachebox.VTTLCache(held).insert
        add("cachebox VTTL", lambda key, value: insert(key, value, LIFE))
    if (theine := cases.peer("theine")) is not None:
        put = theine.Cache(held, nolock=True).set
        life = timedelta(seconds=LIFE)
        add("theine", lambda key, value: put(key, value, life))
    await cases.run(scale(9, 1), warm=2)
    return cases.result(
        "insert with eviction, near tier", BASE, "tiercache hybrid", NEAR, most=5.0,
        ahead_of=["theine"] if "theine" in cases.times else [],
    )  # fmt: skip


async def _whole(scale: Scale, held: int) -> Result:
    cases = Cases(scale)
    base = "async OrderedDict LRU"

    def add(name: str, put: Any) -> None:
        async def act(keys: list[str]) -> None:
            for key in keys:
                await put(key, key)

        cases.add(name, _round(act, held))

    add(base, Lru(held).set)
    async with opened(near("hybrid", held)) as cache:
        add("tiercache", cache.set)
        if (cashews := cases.peer("cashews")) is not None:
            peer = cashews.Cache()
            peer.setup(f"mem://?size={held}")
            add("cashews", lambda key, value: peer.set(key, value, expire=LIFE))
        if (stores := cases.peer("key_value.aio.stores.memory")) is not None:
            store = stores.MemoryStore(max_entries_per_collection=held)
            add("py-key-value", lambda key, value: store.put(key=key, value={"v": value}, ttl=LIFE))
        await cases.run(scale(7, 1), warm=2)
    peers = [name for name in ("cashews", "py-key-value") if name in cases.times]
    return cases.result("await set with eviction, near tier alone", base, "tiercache", WHOLE, ahead_of=peers)
