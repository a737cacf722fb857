"""`get_or_set` under zipf, with single flight."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from bench.caches import LIFE, near, opened
from bench.row import Cases, Result, Scale
from bench.rows.near_zipf import WARM, replayed, requests

BASE = "async-lru"
TERMS = (
    "Zipf 0.99 over 100,000 keys, 10,000 held and full, no round like another; the loader awaits nothing; "
    "processor time of a request. One load at a time for a key with ours, async-lru and cashews; "
    "aiocache's decorator promises none. async-lru caches by argument, ours by key, so ours is also shown "
    "as a decorator."
)


async def load(key: str) -> str:
    return key


def caller(function: Callable[[str], Awaitable[Any]]) -> Callable[[list[str]], Awaitable[None]]:
    async def act(keys: list[str]) -> None:
        for key in keys:
            await function(key)

    return act


async def run(scale: Scale) -> list[Result]:
    rounds = scale(5, 1)
    asked, held = requests(scale, WARM + rounds)
    cases = Cases(scale)

    def add(name: str, function: Callable[[str], Awaitable[Any]]) -> None:
        cases.add(name, replayed(caller(function), asked))

    async with opened(near("hybrid", held)) as cache, opened(near("hybrid", held)) as decorating:

        async def ours(key: str) -> Any:
            return await cache.get_or_set(key, lambda: load(key))

        @decorating.cached(key="{key}")
        async def decorated(key: str) -> str:
            return await load(key)

        add("tiercache", ours)
        add("tiercache, decorated", decorated)
        if (alru := cases.peer("async_lru")) is not None:
            # A function of its own: the decorator keeps its cache on it.
            async def fresh(key: str) -> str:
                return await load(key)

            add(BASE, alru.alru_cache(maxsize=held, ttl=LIFE)(fresh))
        if (cashews := cases.peer("cashews")) is not None:
            peer = cashews.Cache()
            peer.setup(f"mem://?size={held}")

            async def loaded(key: str) -> str:
                return await load(key)

            add("cashews", peer(ttl=LIFE, key="{key}")(loaded))
        if (aiocache := cases.peer("aiocache")) is not None:

            async def again(key: str) -> str:
                return await load(key)

            add("aiocache", aiocache.cached(ttl=LIFE)(again))
        await cases.run(rounds, WARM)
        peers = [name for name in (BASE, "cashews", "aiocache") if name in cases.times]
        return [
            cases.result(
                "get_or_set, zipf, single flight", BASE, "tiercache", TERMS, ahead_of=peers,
                facts={"tiercache": f"hit rate {cache.stats().hit_rate:.3f}"},
            )
        ]  # fmt: skip
