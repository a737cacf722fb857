"""Near miss → Redis → decode → near."""

from __future__ import annotations

from typing import Any

from bench.caches import PATIENCE, far, opened, shuffled, user
from bench.clients import spread
from bench.row import Cases, Result, Scale, waited
from servers import Server

BASE = "redis-py + msgspec"
TERMS = (
    "A user of about 200 bytes of JSON, a different one under each of 4,096 keys, near tiers, the base's "
    "dict among them, emptied before each round, 64 tasks, by the wall. The base is a GET, msgspec's "
    "MessagePack decoder and an assignment to a dict: no TTL near, no checksum."
)


async def run(scale: Scale) -> list[Result]:
    keys = shuffled(scale(4096, 64), "k:")
    with Server("valkey") as server:
        return [await _measure(scale, server, keys)]


async def _measure(scale: Scale, server: Server, keys: list[str]) -> Result:
    import ormsgpack
    from redis.asyncio import Redis

    cases = Cases(scale)
    tasks = 64
    async with (
        opened(far({"type": "redis", "url": server.url, "timeout": PATIENCE}, memory=10_000)) as cache,
        Redis(host=server.host, port=server.port, max_connections=1000) as plain,
    ):
        for at, key in enumerate(keys):
            await cache.set(key, user(at))
            await plain.set(key, ormsgpack.packb(user(at)))
        near = cache._house.nears["memory"]

        async def ours(key: str) -> Any:
            value = await cache.get(key)
            assert value is not None
            return value

        held: dict[str, Any] = {}
        msgspec = cases.peer("msgspec")
        decode = msgspec.msgpack.decode if msgspec is not None else ormsgpack.unpackb

        async def bare(key: str) -> Any:
            value = held[key] = decode(await plain.get(key))
            return value

        assert await ours(keys[0]) == await bare(keys[0]) == user(0)
        read_plainly = waited(spread(bare, keys, tasks), len(keys))
        read = waited(spread(ours, keys, tasks), len(keys))

        async def bare_emptied() -> float:
            held.clear()
            return await read_plainly()

        async def ours_emptied() -> float:
            for key in keys:
                near.remove(key)
            return await read()

        cases.add(BASE, bare_emptied)
        cases.add("tiercache", ours_emptied)
        await cases.run(scale(9, 1))
        assert cache.stats().misses == 0
    return cases.result(
        "near miss → Redis → decode → near, 64 tasks (throughput)", BASE, "tiercache", TERMS, least=7.0
    )
