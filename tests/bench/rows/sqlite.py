"""SQLite: hits with 1 and 64 tasks, writes with 64."""

from __future__ import annotations

import sqlite3
from typing import Any

from bench.caches import directory, far, opened, shuffled, text
from bench.clients import Client, disk_peers, spread
from bench.row import Cases, Result, Scale, waited

TERMS = (
    "200 characters under each of 2,048 keys, warm page cache, by the wall, WAL and synchronous=NORMAL "
    "with all. Ours checks two checksums, the TTL, tombstones and markers, notes each read for its "
    "eviction policy, and decodes MessagePack. Peers: diskcache in a thread for each call, cashews over "
    "diskcache, py-key-value over diskcache."
)
HOP = "one aiosqlite hop"


async def run(scale: Scale) -> list[Result]:
    keys = shuffled(scale(2048, 64), "k:")
    with directory() as path:
        one = await _hits(scale, f"{path}/one", keys[: scale(512, 16)], 1)
    with directory() as path:
        many = await _hits(scale, f"{path}/many", keys, 64)
    with directory() as path:
        written = await _writes(scale, path, keys)
    return [one, many, written]


async def _hits(scale: Scale, path: str, keys: list[str], tasks: int) -> Result:
    import aiosqlite

    cases = Cases(scale)
    async with (
        opened(far({"type": "sqlite", "path": f"{path}/ours.sqlite3"})) as cache,
        disk_peers(cases, path) as peers,
    ):
        clients = {"tiercache": Client(cache.get, cache.set), **peers}
        for client in clients.values():
            for at, key in enumerate(keys):
                await client.set(key, text(at))
        raw = sqlite3.connect(f"{path}/plain.sqlite3")
        with raw:
            raw.execute("PRAGMA journal_mode = WAL")
            raw.execute("CREATE TABLE held (key TEXT PRIMARY KEY, expires REAL, value BLOB)")
            rows = [(key, 2.0**62, text(at)) for at, key in enumerate(keys)]
            raw.executemany("INSERT INTO held VALUES (?, ?, ?)", rows)
        raw.close()
        async with aiosqlite.connect(f"{path}/plain.sqlite3") as plain:
            bare = plain._conn

            def select(key: str) -> Any:
                asked = bare.execute("SELECT value, expires FROM held WHERE key = ?", (key,))
                return asked.fetchone()[0]

            async def hop(key: str) -> Any:
                return await plain._execute(select, key)

            assert await hop(keys[3]) == await cache.get(keys[3]) == text(3)
            cases.add(HOP, waited(spread(hop, keys, tasks), len(keys)))
            for name, client in clients.items():
                cases.add(name, waited(spread(client.get, keys, tasks), len(keys)))
            await cases.run(scale(9, 1))
        assert cache.stats().misses == 0
    if tasks == 1:
        return cases.result("SQLite hit, 1 task", HOP, "tiercache", TERMS, most=1.9)
    rivals = [name for name in ("cashews disk", "py-key-value disk") if name in cases.times]
    base = min(rivals, key=lambda name: sum(cases.times[name]), default="cashews disk")
    return cases.result(f"SQLite hit, {tasks} tasks (throughput)", base, "tiercache", TERMS, least=4.0)


async def _writes(scale: Scale, path: str, keys: list[str]) -> Result:
    cases = Cases(scale)
    turn = 0
    async with (
        opened(far({"type": "sqlite", "path": f"{path}/ours.sqlite3"})) as cache,
        disk_peers(cases, path) as peers,
    ):
        for name, client in {"tiercache": Client(cache.set, cache.set), **peers}.items():

            async def write(key: str, client: Client = client) -> None:
                # Never what stands there already: SQLite would not write it.
                nonlocal turn
                turn += 1
                await client.set(key, text(turn))

            cases.add(name, waited(spread(write, keys, 64), len(keys)))
        await cases.run(scale(5, 1))
        assert cache.stats().tiers["far"].errors == 0
    rivals = [name for name in ("cashews disk", "diskcache in threads") if name in cases.times]
    base = min(rivals, key=lambda name: sum(cases.times[name]), default="diskcache in threads")
    return cases.result("SQLite write, 64 tasks (throughput)", base, "tiercache", TERMS, least=10.0)
