"""Decorated functions, hit."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from bench.caches import LIFE, near, opened
from bench.row import Cases, Result, Scale, awaited, spent
from tiercache import Cache

TERMS = (
    "200 different int arguments, loop included, processor time. Everybody has a TTL but "
    "functools.lru_cache; ours can be invalidated by key, tag and prefix."
)


async def trivial(a):
    return a


async def trivial2(a, b):
    return a


async def run(scale: Scale) -> list[Result]:
    numbers = list(range(scale(200, 10)))
    async with opened(near("hybrid")) as cache:
        one = await _async(scale, cache, numbers, trivial, 1)
        two = await _async(scale, cache, numbers, trivial2, 2)
        return [one, two, await _sync(scale, numbers)]


async def _async(scale: Scale, cache: Cache, numbers: list[int], plain: Any, arity: int) -> Result:
    cases = Cases(scale)
    pairs = [(number,) * arity for number in numbers]

    def add(name: str, function: Any) -> None:
        async def act(passes: int) -> None:
            for _ in range(passes):
                for number in numbers:
                    await function(number)

        async def act2(passes: int) -> None:
            for _ in range(passes):
                for number in numbers:
                    await function(number, number)

        cases.add(name, awaited(act if arity == 1 else act2, len(numbers), scale=scale))

    decorators: dict[str, Callable[[Any], Any]] = {"tiercache": cache.cached()}
    if (cachebox := cases.peer("cachebox")) is not None:
        decorators["cachebox"] = cachebox.cached(cachebox.TTLCache(10_000, LIFE))
    if (alru := cases.peer("async_lru")) is not None:
        decorators["async-lru"] = alru.alru_cache(maxsize=10_000, ttl=LIFE)
    if (aiocache := cases.peer("aiocache")) is not None:
        decorators["aiocache"] = aiocache.cached(ttl=LIFE)
    if (cashews := cases.peer("cashews")) is not None:
        peer = cashews.Cache()
        peer.setup("mem://?size=10000")
        decorators["cashews"] = peer(ttl=LIFE, key="f:{a}" if arity == 1 else "f:{a}:{b}")
    add("await a coroutine", plain)
    for name, decorate in decorators.items():
        decorated = decorate(_copy(plain))
        for pair in pairs:
            assert await decorated(*pair) == pair[0]
        add(name, decorated)
    await cases.run(scale(25, 1))
    return cases.result(
        f"decorated async function, hit, {arity} argument{'s' * (arity > 1)}", "await a coroutine",
        "tiercache", TERMS, most=3.0 if arity == 1 else 4.0,
        ahead_of=[name for name in decorators if name != "tiercache"],
    )  # fmt: skip


def _copy(function: Any) -> Any:
    """Return a function of its own for each decorator: aiocache keeps what it makes on the function."""
    if function is trivial:

        async def fresh(a):
            return a

        return fresh

    async def fresh2(a, b):
        return a

    return fresh2


async def _sync(scale: Scale, numbers: list[int]) -> Result:
    # A cache for code without a loop is opened outside of one.
    return await asyncio.to_thread(lambda: asyncio.run(_sync_cases(scale, numbers)))


async def _sync_cases(scale: Scale, numbers: list[int]) -> Result:
    cases = Cases(scale)
    base = "functools.lru_cache"

    def add(name: str, function: Any) -> None:
        def act(passes: int) -> None:
            for _ in range(passes):
                for number in numbers:
                    function(number)

        for number in numbers:
            assert function(number) == number
        cases.add(name, spent(act, len(numbers), scale=scale))

    def plain(a):
        return a

    with Cache.open_sync(near("hybrid")) as cache:
        add(base, functools.lru_cache(10_000)(plain))
        add("tiercache", cache.cached()(plain))
        if (cachebox := cases.peer("cachebox")) is not None:
            add("cachebox", cachebox.cached(cachebox.TTLCache(10_000, LIFE))(plain))
        if (cachetools := cases.peer("cachetools")) is not None:
            add("cachetools TTL", cachetools.cached(cachetools.TTLCache(10_000, LIFE))(plain))
        await cases.run(scale(25, 1))
    peers = [name for name in ("cachebox", "cachetools TTL") if name in cases.times]
    return cases.result("decorated sync function, hit", base, "tiercache", TERMS, most=3.0, ahead_of=peers)
