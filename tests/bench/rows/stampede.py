"""1,000 tasks on a cold key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from statistics import median
from time import perf_counter
from typing import Any

from bench.caches import LIFE, near, opened
from bench.row import Cases, Result, Scale

BASE = "the loader alone"
SLEEP = 0.02
TERMS = (
    "1,000 tasks ask for one key that nobody has; the loader sleeps 20 ms; from before the first task is "
    "made to the last answer, by the wall, a new key each round. Ours and async-lru let a caller be "
    "cancelled without hurting others."
)


class Counted:
    """A loader, and how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    async def load(self, key: str) -> str:
        self.calls += 1
        await asyncio.sleep(SLEEP)
        return key


async def run(scale: Scale) -> list[Result]:
    tasks = scale(1000, 20)
    cases = Cases(scale)
    counted: dict[str, Counted] = {}
    calls: dict[str, list[int]] = {}

    def add(name: str, make: Callable[[Counted], Callable[[str], Awaitable[Any]]]) -> None:
        loader = counted[name] = Counted()
        function = make(loader)
        turn = 0

        async def measured() -> float:
            nonlocal turn
            turn += 1
            loader.calls = 0
            began = perf_counter()
            results = await asyncio.gather(*[function(f"cold:{turn}") for _ in range(tasks)])
            spent = perf_counter() - began
            assert set(results) == {f"cold:{turn}"}
            calls.setdefault(name, []).append(loader.calls)
            return spent

        cases.add(name, measured)

    async def alone() -> float:
        began = perf_counter()
        await asyncio.sleep(SLEEP)
        return perf_counter() - began

    cases.add(BASE, alone)
    async with opened(near()) as cache:

        def ours(loader: Counted) -> Callable[[str], Awaitable[Any]]:
            return lambda key: cache.get_or_set(key, lambda: loader.load(key))

        add("tiercache", ours)
        if (alru := cases.peer("async_lru")) is not None:

            def by_alru(loader: Counted) -> Callable[[str], Awaitable[Any]]:
                async def function(key: str) -> str:
                    return await loader.load(key)

                return alru.alru_cache(maxsize=100, ttl=LIFE)(function)

            add("async-lru", by_alru)
        if (cashews := cases.peer("cashews")) is not None:
            peer = cashews.Cache()
            peer.setup("mem://?size=10000")

            def by_cashews(loader: Counted) -> Callable[[str], Awaitable[Any]]:
                async def function(key: str) -> str:
                    return await loader.load(key)

                return peer(ttl=LIFE, key="{key}")(function)

            add("cashews", by_cashews)
        if (aiocache := cases.peer("aiocache")) is not None:

            def by_aiocache(loader: Counted) -> Callable[[str], Awaitable[Any]]:
                async def function(key: str) -> str:
                    return await loader.load(key)

                return aiocache.cached(ttl=LIFE)(function)

            add("aiocache", by_aiocache)
        await cases.run(scale(9, 1))
    facts = {name: f"{median(seen):g} loads" for name, seen in calls.items()}
    wrong = [] if set(calls["tiercache"]) == {1} else ["loads"]
    result = cases.result(
        "1,000 tasks on a cold key, loader 20 ms, 1 load", BASE, "tiercache", TERMS, most=1.5,
        facts=facts, wrong=wrong,
    )  # fmt: skip
    return [result]
