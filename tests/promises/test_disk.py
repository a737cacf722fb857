"""The tier in a file."""

from __future__ import annotations

import asyncio
import pickle
import sqlite3
import stat
from contextlib import closing

from promises.scene import PATIENCE
from tiercache import Cache
from tiercache.testing import FakeClock


def document(path, **disk):
    """Return a document with nothing but a file at *path*."""
    return {
        "cache": {"bus": "none"},
        "tier": {"disk": {"type": "sqlite", "path": str(path), **disk}},
        "route": {"all": {"tiers": ["disk"], "ttl": "1h"}},
    }


def run(scenario):
    """Run the coroutine function *scenario*, and give up some time."""

    async def bounded():
        async with asyncio.timeout(3 * PATIENCE):
            await scenario()

    asyncio.run(bounded())


def test_a_file_stays_within_its_bound(tmp_path):
    """bentocache's file driver prunes by TTL alone, so that a file tier fills the disk."""

    async def scenario():
        async with Cache.open(document(tmp_path / "c.db", max_bytes="256KiB")) as cache:
            for number in range(400):
                await cache.set(f"k{number}", "x" * 5000)
            held = cache.stats().tiers["disk"].own
            assert held["bytes"] <= 256 * 1024
            assert held["evicted"] > 300
        assert (tmp_path / "c.db").stat().st_size < 1024 * 1024

    run(scenario)


def test_nothing_in_a_file_is_unpickled_unasked(tmp_path):
    """diskcache, CVE-2025-69872: who can write to the directory runs code in whoever reads the cache."""

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    async def scenario():
        key = "a key that is long enough to sign with"
        signing = document(tmp_path / "c.db", serializer="pickle")
        signing["serializer"] = {"pickle": {"type": "pickle", "key": key}}
        async with Cache.open(signing) as cache:
            await cache.set("k", Bomb())
        signing["serializer"]["pickle"]["key"] = "another key, as the forger does not know this one"
        async with Cache.open(signing) as cache:
            assert await cache.get("k") is None
            assert cache.stats().tiers["disk"].corrupt == 1
            await cache.set("k", "signed with the other key")
        async with Cache.open(document(tmp_path / "c.db")) as cache:
            assert await cache.get("k") is None
            assert cache.stats().tiers["disk"].corrupt == 1
        forged = pickle.dumps(Bomb())
        async with Cache.open(document(tmp_path / "c.db")) as cache:
            await cache.set("k", forged)
            assert await cache.get("k") == forged

    run(scenario)
    assert not (tmp_path / "exploded").exists()


def test_many_caches_open_a_new_file_at_once(tmp_path):
    """diskcache #85, #131: "database is locked" where several open it at the same time."""

    async def scenario():
        caches = [Cache.open(document(tmp_path / "c.db")) for _ in range(8)]
        await asyncio.gather(*(cache.start() for cache in caches))
        await asyncio.gather(*(cache.set(f"k{n}", n) for n, cache in enumerate(caches)))
        for cache in caches:
            assert await cache.get_many([f"k{n}" for n in range(8)]) == {f"k{n}": n for n in range(8)}
            assert cache.stats().tiers["disk"].errors == 0
            await cache.close()

    run(scenario)


def test_a_damaged_file_is_put_aside_and_the_cache_goes_on(tmp_path):
    """hishel's users replaced its SQLite store (uv-secure PR #179); a broken cache file must stop nobody."""

    async def scenario():
        async with Cache.open(document(tmp_path / "c.db")) as cache:
            await cache.set_many({f"k{n}": "x" * 3000 for n in range(50)})
        content = bytearray((tmp_path / "c.db").read_bytes())
        content[4096 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4096)
        (tmp_path / "c.db").write_bytes(content)
        async with Cache.open(document(tmp_path / "c.db")) as cache:
            for n in range(50):
                assert await cache.get(f"k{n}") in {None, "x" * 3000}
            await cache.set("new", 1)
            assert await cache.get("new") == 1
        assert list(tmp_path.glob("c.db.corrupt-*"))

    run(scenario)


def test_a_value_too_large_for_the_file_leaves_no_older_one_behind(tmp_path):
    """foyer #743: an update that is refused at the door leaves the old copy on disk, to be read again."""

    async def scenario():
        async with Cache.open(document(tmp_path / "c.db", max_bytes="256KiB")) as cache:
            await cache.set("k", "old")
            await cache.set("k", b"\0" * 400_000)
            assert await cache.get("k") is None

    run(scenario)


def test_a_delete_outlasts_a_restart(tmp_path):
    """foyer keeps a log of tombstones, so that what was deleted is not back when the process starts anew."""

    async def scenario():
        async with (
            Cache.open(document(tmp_path / "c.db")) as cache,
            Cache.open(document(tmp_path / "c.db")) as slow,
        ):
            went, go_on = asyncio.Event(), asyncio.Event()

            async def loader():
                went.set()
                await go_on.wait()
                return "old"

            loading = asyncio.create_task(slow.get_or_set("k", loader))
            await went.wait()
            await cache.delete("k")
            await cache.close()
            go_on.set()
            assert await loading == "old"
        async with Cache.open(document(tmp_path / "c.db")) as cache:
            assert await cache.get("k") is None

    run(scenario)


def test_files_are_for_their_owner_alone(tmp_path):
    """CVE-2025-69872 again: the way in is a directory that others may write to."""

    async def scenario():
        async with Cache.open(document(tmp_path / "new" / "c.db")) as cache:
            await cache.set("k", 1)
            for path in (tmp_path / "new", *(tmp_path / "new").iterdir()):
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path

    run(scenario)


def test_reading_writes_nothing(tmp_path):
    """solid_cache PR #40 dropped LRU, as a row that is touched by each read is a write; diskcache pays it."""

    async def scenario():
        described = document(tmp_path / "c.db", policy="lru")
        async with Cache.open(described, clock=FakeClock()) as cache:
            await cache.set("k", 1)
            with closing(sqlite3.connect(tmp_path / "c.db")) as watcher:
                (before,) = watcher.execute("PRAGMA data_version").fetchone()
                for _ in range(300):
                    assert await cache.get("k") == 1
                (after,) = watcher.execute("PRAGMA data_version").fetchone()
            assert after == before

    run(scenario)
