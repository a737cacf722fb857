"""What becomes of a call when there is more: near entries, rows in SQLite, keys of a tag."""

from __future__ import annotations

import asyncio
import random
from time import perf_counter, process_time

from bench.caches import directory, far, near, opened, text
from bench.row import Cases, Result, Scale
from tiercache import Cache

TERMS = {
    "near": (
        "The same cache type with room for 1.2 million, 64 keys among all read, and set anew, again and "
        "again, so that the processor's own caches do not measure memory instead of work; processor time."
    ),
    "far": (
        "64 tasks, 200 characters a value, by the wall: gets of keys chosen by chance among all rows, "
        "sets of new keys whose places in the index are by chance, sets of keys that stand. What grows is"
        " the depth of the trees, and what no longer fits SQLite's cache of 8 MiB; reads are noted beside "
        "both, in memory, and written every half minute. The bound is 4 GiB, so that nothing is evicted. The "
        "log grows to 32 MiB, which is what a round of sets of keys that stand writes: each pays for copying "
        "it; of new keys a round writes an eighth."
    ),
    "tag": "One `invalidate(tags=…)` of a tag that all of the keys carry, near and SQLite; by the wall.",
}


async def run(scale: Scale) -> list[Result]:
    small, large = scale(1_000, 50), scale(1_000_000, 200)
    rows = scale(10_000, 100), scale(1_000_000, 300)
    return [
        *await _near(scale, small, large),
        *await _sqlite(scale, *rows),
        await _tags(scale, scale(100, 10), scale(100_000, 100)),
    ]


async def _near(scale: Scale, small: int, large: int) -> list[Result]:
    results = []
    reads, writes = Cases(scale), Cases(scale)
    async with opened(near(size=scale(1_200_000, 70_000))) as few, opened(
        near(size=scale(1_200_000, 70_000))
    ) as many:  # fmt: skip
        for cache, size, name in ((few, small, f"{small:,}"), (many, large, f"{large:,}")):
            keys = [f"user:{at}" for at in range(size)]
            for key in keys:
                await cache.set(key, "value")
            chosen = random.Random(3).sample(keys, min(64, size))

            async def get(cache: Cache = cache, chosen: list[str] = chosen) -> float:
                began = process_time()
                for _ in range(scale(800, 1)):
                    for key in chosen:
                        await cache.get(key)
                return (process_time() - began) / len(chosen) / scale(800, 1)

            async def put(cache: Cache = cache, chosen: list[str] = chosen) -> float:
                began = process_time()
                for _ in range(scale(80, 1)):
                    for key in chosen:
                        await cache.set(key, "value")
                return (process_time() - began) / len(chosen) / scale(80, 1)

            reads.add(f"{name} entries", get)
            writes.add(f"{name} entries", put)
        await reads.run(scale(9, 1))
        await writes.run(scale(9, 1))
        for cases, what in ((reads, "get"), (writes, "set")):
            results.append(
                cases.result(
                    f"growth of near {what}, {small:,} to {large:,} entries", f"{small:,} entries",
                    f"{large:,} entries", TERMS["near"], most=1.25,
                )
            )  # fmt: skip
    return results


async def _sqlite(scale: Scale, small: int, large: int) -> list[Result]:
    kinds = {"get": Cases(scale), "set of new keys": Cases(scale), "set of keys that stand": Cases(scale)}
    names = [f"{small:,} rows", f"{large:,} rows"]
    # As many sets as fill the log: each round pays for copying it. New keys are fewer, or 10,000 rows would
    # not stay so.
    count, new = scale(8_192, 64), scale(1_024, 64)
    with directory() as path:
        documents = [
            far({"type": "sqlite", "path": f"{path}/{size}.sqlite3", "max_bytes": "4GiB"})
            for size in (small, large)
        ]
        async with opened(documents[0]) as few, opened(documents[1]) as many:
            for cache, size, name in zip((few, many), (small, large), names, strict=True):
                for start in range(0, size, 5_000):
                    keys = range(start, min(start + 5_000, size))
                    await cache.set_many({f"k:{at}": text(at) for at in keys})
                chance = random.Random(5)

                async def get(cache: Cache = cache, size: int = size, chance=chance) -> float:
                    asked = [f"k:{chance.randrange(size)}" for _ in range(count)]
                    return await _spread(asked, cache.get)

                async def add(cache: Cache = cache, size: int = size, chance=chance) -> float:
                    asked = [f"k:{chance.randrange(size)}:{chance.random()}" for _ in range(new)]
                    return await _spread(asked, lambda key: cache.set(key, text(7)))

                async def put(cache: Cache = cache, size: int = size, chance=chance) -> float:
                    asked = [f"k:{chance.randrange(size)}" for _ in range(count)]
                    return await _spread(asked, lambda key: cache.set(key, text(chance.randrange(10**8))))

                for cases, act in zip(kinds.values(), (get, add, put), strict=True):
                    cases.add(name, act)
            for cases in kinds.values():
                await cases.run(scale(5, 1))
    return [
        cases.result(f"growth of SQLite {what}, {small:,} to {large:,} rows", *names, TERMS["far"], most=1.5)
        for what, cases in kinds.items()
    ]


async def _spread(asked: list[str], act) -> float:
    async def share(keys: list[str]) -> None:
        for key in keys:
            await act(key)

    began = perf_counter()
    await asyncio.gather(*[share(asked[at::64]) for at in range(64)])
    return (perf_counter() - began) / len(asked)


async def _tags(scale: Scale, small: int, large: int) -> Result:
    cases = Cases(scale)
    with directory() as path:
        documents = [
            far({"type": "sqlite", "path": f"{path}/{size}.sqlite3"}, memory=1_000) for size in (small, large)
        ]
        async with opened(documents[0]) as few, opened(documents[1]) as many:
            for cache, size in ((few, small), (many, large)):
                for start in range(0, size, 5_000):
                    keys = range(start, min(start + 5_000, size))
                    await cache.set_many({f"k:{at}": text(at) for at in keys}, tags=("all",))

                async def invalidate(cache: Cache = cache) -> float:
                    began = perf_counter()
                    await cache.invalidate(tags=("all",))
                    return perf_counter() - began

                cases.add(f"{size:,} keys", invalidate)
            await cases.run(scale(15, 1))
            assert await few.get("k:1") is await many.get("k:1") is None
    return cases.result(
        f"growth of invalidate by tag, {small:,} to {large:,} keys", f"{small:,} keys", f"{large:,} keys",
        TERMS["tag"], most=1.5,
    )  # fmt: skip
