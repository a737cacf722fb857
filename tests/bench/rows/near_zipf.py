"""`get`, and `set` on a miss, under zipf, with a near tier that is full."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from time import process_time
from typing import Any

from bench import traces
from bench.caches import LIFE, near, opened
from bench.row import Cases, Result, Round, Scale

BASE = "async S3-FIFO dict"
WARM = 4
"""Rounds until the caches are full and their policies settled."""
TERMS = (
    "Zipf 0.99 over 100,000 keys, 10,000 held and full, the same requests for everybody, each drawn by "
    "chance and no round like another; time is of a request, hit or miss, by processor, with Python's "
    "collector on. The base is the bare algorithm with the same signatures: no TTL, no tags, no lock, no "
    "routes, no stamps, no counters; aiocache has no bound."
)


class _Item:
    __slots__ = ("freq", "key", "value")

    def __init__(self, key: str, value: object) -> None:
        self.key = key
        self.value = value
        self.freq = 0


class Bare:
    """S3-FIFO as its paper has it (Yang et al., SOSP 2023), and nothing else."""

    def __init__(self, capacity: int) -> None:
        self._items: dict[str, _Item] = {}
        self._small: deque[_Item] = deque()
        self._main: deque[_Item] = deque()
        self._ghosts: OrderedDict[str, None] = OrderedDict()
        self._capacity = capacity
        self._share = max(capacity // 10, 1)

    async def get(self, key, default=None, route=None, as_type=None):
        item = self._items.get(key)
        if item is None:
            return default
        item.freq += 1
        return item.value

    async def set(self, key, value, *, route=None, ttl=None, stale=None, tags=()):
        items = self._items
        item = items.get(key)
        if item is not None:
            item.value = value
            return
        while len(items) >= self._capacity:
            self._evict()
        item = items[key] = _Item(key, value)
        if key in self._ghosts:
            del self._ghosts[key]
            self._main.append(item)
        else:
            self._small.append(item)

    def _evict(self) -> None:
        small, main = self._small, self._main
        if len(small) >= self._share or not main:
            item = small.popleft()
            if item.freq > 1:
                item.freq = 0
                main.append(item)
                return
            ghosts = self._ghosts
            ghosts[item.key] = None
            if len(ghosts) > self._capacity:
                ghosts.popitem(last=False)
            del self._items[item.key]
            return
        item = main.popleft()
        if item.freq:
            item.freq = min(item.freq, 3) - 1
            main.append(item)
        else:
            del self._items[item.key]


def requests(scale: Scale, rounds: int) -> tuple[list[list[str]], int]:
    """Return keys as they are asked for, round by round, and how many are held.

    One sequence that goes on: the same one over and over would be a loop to the policies, which S3-FIFO
    serves better in every other round, and nobody's traffic.
    """
    count = scale(100_000, 400)
    keys = [f"user:{number}" for number in range(count)]
    each = scale(50_000, 500)
    drawn = traces.zipf(each * rounds, count, 11, skew=0.99)
    asked = [keys[at] for at in drawn]
    return [asked[begin : begin + each] for begin in range(0, len(asked), each)], count // 10


def replayed(act: Callable[[list[str]], Awaitable[None]], asked: list[list[str]]) -> Round:
    """Return a round that runs *act* on the next of *asked*, by processor time."""
    coming = iter(asked)

    async def measured() -> float:
        keys = next(coming)
        began = process_time()
        await act(keys)
        return (process_time() - began) / len(keys)

    return measured


def filler(
    get: Callable[[str], Awaitable[Any]], put: Callable[[str, Any], Awaitable[Any]]
) -> Callable[[list[str]], Awaitable[None]]:
    async def act(keys: list[str]) -> None:
        for key in keys:
            if await get(key) is None:
                await put(key, "value")

    return act


async def run(scale: Scale) -> list[Result]:
    rounds = scale(9, 1)
    asked, held = requests(scale, WARM + rounds)
    cases = Cases(scale)

    def add(name: str, get: Callable[[str], Awaitable[Any]], put: Callable[..., Awaitable[Any]]) -> None:
        cases.add(name, replayed(filler(get, put), asked))

    bare = Bare(held)
    add(BASE, bare.get, bare.set)
    async with opened(near("hybrid", held)) as cache:
        add("tiercache", cache.get, cache.set)
        if (cashews := cases.peer("cashews")) is not None:
            peer = cashews.Cache()
            peer.setup(f"mem://?size={held}")

            async def put_cashews(key: str, value: object) -> None:
                await peer.set(key, value, expire=LIFE)

            add("cashews", peer.get, put_cashews)
        if (aiocache := cases.peer("aiocache")) is not None:
            other = aiocache.SimpleMemoryCache()

            async def put_aiocache(key: str, value: object) -> None:
                await other.set(key, value, ttl=LIFE)

            add("aiocache", other.get, put_aiocache)
        await cases.run(rounds, WARM)
        stats = cache.stats()
        peers = [name for name in ("cashews", "aiocache") if name in cases.times]
        return [
            cases.result(
                "get, and set on a miss, zipf, near tier full", BASE, "tiercache", TERMS, most=1.6,
                ahead_of=peers, facts={"tiercache": f"hit rate {stats.hit_rate:.3f}"},
            )
        ]  # fmt: skip
