"""A hit in Redis, with 1, 64 and 256 tasks."""

from __future__ import annotations

from bench.caches import PATIENCE, far, opened, shuffled, text
from bench.clients import Client, redis_peers, spread
from bench.row import Cases, Result, Scale, waited
from servers import Server

BASE = "redis-py"
TERMS = (
    "200 characters under each of 4,096 keys, each asked for once a round, by the wall, no near tier, "
    "default options but for patience, hiredis with all that use it. redis-py, coredis and valkey-glide "
    "hand out bytes and judge nothing; cashews unpickles, aiocache decodes JSON; ours checks a checksum, "
    "the TTL, tombstones and markers and decodes MessagePack, behind a deadline and a circuit breaker."
)


async def run(scale: Scale) -> list[Result]:
    keys = shuffled(scale(4096, 64), "k:")
    with Server("valkey") as server:
        results = []
        for tasks in (1, 64, 256):
            results.append(await _measure(scale, server, keys, tasks))
        return results


async def _measure(scale: Scale, server: Server, keys: list[str], tasks: int) -> Result:
    cases = Cases(scale)
    asked = keys[: max(len(keys) // 4, 1)] if tasks == 1 else keys
    async with (
        opened(far({"type": "redis", "url": server.url, "timeout": PATIENCE})) as cache,
        redis_peers(cases, server.host, server.port) as peers,
    ):
        clients = {BASE: peers.pop(BASE), "tiercache": Client(cache.get, cache.set), **peers}
        for name, client in clients.items():
            for at, key in enumerate(keys):
                await client.set(key, text(at))
            held = await client.get(keys[7])
            assert held in {text(7), text(7).encode()}, name
            cases.add(name, waited(spread(client.get, asked, tasks), len(asked)))
        await cases.run(scale(9, 1))
        assert cache.stats().misses == 0
    peers_here = [name for name in clients if name not in {BASE, "tiercache"}]
    if tasks == 1:
        return cases.result("Redis hit, 1 task", BASE, "tiercache", TERMS, most=1.25)
    return cases.result(
        f"Redis hit, {tasks} tasks (throughput)", BASE, "tiercache", TERMS, least=9.0, ahead_of=peers_here
    )
