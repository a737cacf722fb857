"""Broken files, other people's files, files that vanish: a miss each, and never a wrong frame."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import sqlite3
from contextlib import asynccontextmanager, closing

import pytest

from tiercache import Clock, TierError, TierRefused
from tiercache.testing import FakeClock
from tiercache.testing.tiers import Surroundings, record_of
from tiercache_plugins.tiers.sqlite import SqliteConfig
from tiercache_plugins.tiers.sqlite.rows import Rows

KEYS = [f"key:{n}" for n in range(60)]
RECORDS = [record_of(key, random.Random(key).randbytes(40 * n)) for n, key in enumerate(KEYS)]
FRAMES = [record.frame for record in RECORDS]


@pytest.fixture
def context(tmp_path):
    return Surroundings(tmp_path, clock=Clock(FakeClock()))


@asynccontextmanager
async def opened(context, path="cache.db"):
    tier = SqliteConfig(path=path, max_bytes="8MiB").build(context)
    try:
        await tier.open()
        yield tier
    finally:
        await tier.close()


@pytest.fixture
def path(context):
    """A sound database with `RECORDS` in it."""

    async def life():
        async with opened(context) as tier:
            await tier.write(RECORDS)

    asyncio.run(life())
    return context.directory / "cache.db"


async def use(context):
    """Return what a tier reads, and whether it could write; raise what is neither right nor a TierError."""
    async with opened(context) as tier:
        frames = list(await tier.read(KEYS))
        try:
            await tier.write([record_of("new", bytes(3000), stamp=7)])
            await tier.delete(["key:1", "new"])
            async for _ in tier.scan("key"):
                pass
            await tier.write(RECORDS)
            await tier.wipe("key:2")
        except TierError:
            return frames, False
        return frames, True


def flips(draw, content):
    content = bytearray(content)
    for _ in range(draw.choice((1, 1, 5, 50, 400))):
        content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content)


def header(draw, content):
    at = draw.randrange(100)
    return content[:at] + draw.randbytes(draw.randrange(1, 8)) + content[at + 8 :]


def page(draw, content):
    at = draw.randrange(len(content) // 8192) * 8192
    return (
        content[:at]
        + draw.choice((bytes(8192), draw.randbytes(8192), content[-8192:]))
        + content[at + 8192 :]
    )


def cut(draw, content):
    return content[: draw.choice((draw.randrange(len(content)), draw.randrange(200), 8192, 0))]


def grown(draw, content):
    return content + draw.randbytes(draw.randrange(1, 20_000))


def garbage(draw, content):
    return draw.choice((draw.randbytes(5000), b"not a database\n" * 500, bytes(len(content))))


def test_200_damaged_files_give_misses_and_never_a_wrong_frame(context, path, caplog):
    caplog.set_level(logging.ERROR)
    sound = path.read_bytes()
    draw = random.Random(2024)
    outcomes = {"hits": 0, "misses": 0, "written": 0, "refused": 0, "failed": 0}
    for _ in range(200):
        for left in path.parent.glob("cache.db*"):
            if not left.name.endswith("-lock"):
                left.unlink()
        damage = draw.choice((flips, flips, flips, header, page, page, cut, grown, garbage))
        path.write_bytes(damage(draw, sound))
        if draw.random() < 0.2:
            (path.parent / "cache.db-wal").write_bytes(draw.randbytes(draw.randrange(1, 9000)))
        try:
            frames, written = asyncio.run(use(context))
        except TierRefused:
            outcomes["refused"] += 1
            continue
        except TierError:
            outcomes["failed"] += 1
            continue
        assert all(frame in (None, right) for frame, right in zip(frames, FRAMES, strict=True))
        outcomes["hits" if None not in frames else "misses"] += 1
        outcomes["written"] += written
    assert outcomes["refused"] == 0, outcomes
    assert outcomes["failed"] == 0, outcomes
    assert outcomes["misses"] > 100, outcomes
    assert outcomes["written"] > 190, outcomes


def test_damage_under_an_open_tier_is_noticed(context, path):
    async def life():
        async with opened(context) as tier:
            content = bytearray(path.read_bytes())
            content[8192:] = random.Random(3).randbytes(len(content) - 8192)
            with path.open("r+b", buffering=0) as file:
                file.write(content)
            for _ in range(3):
                try:
                    frames = await tier.read(KEYS)
                except TierError:
                    continue
                assert all(frame in (None, right) for frame, right in zip(frames, FRAMES, strict=True))
            await tier.write(RECORDS)
            assert list(await tier.read(KEYS)) == FRAMES

    asyncio.run(life())


def test_a_wrong_row_is_a_miss_is_counted_and_goes(context, path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE entries SET frame = frame || x'00' WHERE key = CAST('key:1' AS BLOB)")
        connection.execute("UPDATE entries SET expires = 5 + expires / 2 WHERE key = CAST('key:2' AS BLOB)")
        connection.execute("UPDATE entries SET frame = 'text' WHERE key = CAST('key:3' AS BLOB)")
        connection.commit()

    async def life():
        async with opened(context) as tier:
            assert list(await tier.read(["key:0", "key:1", "key:2", "key:3"])) == [
                FRAMES[0],
                None,
                None,
                None,
            ]
            assert tier.stats()["corrupt"] == 3
            late = record_of("key:1", stamp=1, conditional=True)
            assert list(await tier.write([late])) == [1], "a damaged row kept a sound one out"
            assert tier.stats()["entries"] == len(KEYS) - 2

    asyncio.run(life())


def test_a_damaged_database_is_put_aside_and_one_is_kept(context, path):
    async def life():
        async with opened(context) as tier:
            assert set(await tier.read(KEYS)) == {None}
            assert tier.stats()["recovered"] == 1
            await tier.write(RECORDS)

    for n in range(3):
        context.clock.wall.advance(1)
        damaged = b"garbage %d" % n * 2000
        path.write_bytes(damaged)
        asyncio.run(life())
        (aside,) = path.parent.glob("cache.db.corrupt-*")
        assert aside.read_bytes() == damaged


def malformed():
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def failing(monkeypatch, name, times):
    """Let the function *name* of rows fail *times* times as SQLite fails on a damaged file."""
    left = [times]
    right = getattr(Rows, name)

    def wrong(*arguments):
        if left[0] > 0:
            left[0] -= 1
            raise malformed()
        return right(*arguments)

    monkeypatch.setattr(Rows, name, wrong)


def test_damage_that_a_second_look_does_not_confirm_costs_nothing(context, path, monkeypatch):
    async def life():
        async with opened(context) as tier:
            failing(monkeypatch, "read", 1)
            assert list(await tier.read(KEYS)) == FRAMES
            failing(monkeypatch, "read", 2)
            with pytest.raises(TierError, match="malformed"):
                await tier.read(KEYS)
            assert list(await tier.read(KEYS)) == FRAMES
            assert tier.stats()["recovered"] == 0

    asyncio.run(life())


def test_a_file_that_fails_again_and_again_is_put_aside_whatever_a_check_says(context, path, monkeypatch):
    async def life():
        async with opened(context) as tier:
            failing(monkeypatch, "write", 5)
            for _ in range(2):
                with pytest.raises(TierError, match="malformed"):
                    await tier.write(RECORDS)
                assert list(await tier.read(KEYS)) == FRAMES
            await tier.write(RECORDS)
            assert tier.stats()["recovered"] == 1

    asyncio.run(life())


def test_a_file_that_was_deleted_is_begun_anew(context, path):
    async def life():
        async with opened(context) as tier:
            for left in path.parent.glob("cache.db*"):
                left.unlink()
            assert set(await tier.read(KEYS)) == {None}
            await tier.write(RECORDS)

        async with opened(context) as again:
            assert list(await again.read(KEYS)) == FRAMES

    asyncio.run(life())


def test_a_prompt_read_of_a_file_that_was_deleted_fails_and_another_after_it_is_begun_anew_does_not(
    context, path
):
    async def asked(tier):
        frames = asyncio.get_running_loop().create_future()
        assert tier.read_soon(KEYS, frames.set_result)
        return await frames

    async def life():
        async with opened(context) as tier:
            await tier.write(RECORDS)
            assert list(await asked(tier)) == list(await tier.read(KEYS))
            for left in path.parent.glob("cache.db*"):
                left.unlink()
            assert await asked(tier) is None
            assert set(await tier.read(KEYS)) == {None}
            assert set(await asked(tier)) == {None}

    asyncio.run(life())


def test_a_file_that_can_not_be_begun_anew_is_tried_again(context, path, monkeypatch):
    monkeypatch.setattr("tiercache_plugins.tiers.sqlite.database._AGAIN", 0.2)

    async def life():
        async with opened(context) as tier:
            for left in path.parent.glob("cache.db*"):
                left.unlink()
            path.mkdir()
            for _ in range(2):
                with pytest.raises(TierError, match="a directory|not open"):
                    await tier.read(KEYS)
            path.rmdir()
            await asyncio.sleep(0.25)
            await tier.write(RECORDS)
            assert list(await tier.read(KEYS)) == FRAMES

    asyncio.run(life())


def test_a_directory_that_was_deleted_is_begun_anew(context):
    async def life():
        async with opened(context, "sub/cache.db") as tier:
            shutil.rmtree(context.directory / "sub")
            await tier.write(RECORDS)
            assert list(await tier.read(KEYS)) == FRAMES

    asyncio.run(life())


@pytest.mark.parametrize("content", [b"Dear diary,\n" * 200, b"SQLite format 3\0" + bytes(5000)])
def test_a_file_that_never_was_a_cache_is_refused_and_left_alone(context, content):
    path = context.directory / "cache.db"
    path.write_bytes(content)
    with pytest.raises(TierRefused, match="cache.db"):
        asyncio.run(use(context))
    assert path.read_bytes() == content


def test_a_database_of_another_application_is_refused_and_left_alone(context, path):
    theirs = context.directory / "theirs"
    with closing(sqlite3.connect(theirs)) as connection:
        connection.execute("CREATE TABLE accounts (id)")
        connection.execute("INSERT INTO accounts VALUES (1)")
        connection.commit()
    content = theirs.read_bytes()
    # Also where a cache was before.
    theirs.replace(path)
    with pytest.raises(TierRefused, match="another application"):
        asyncio.run(use(context))
    assert path.read_bytes() == content


def test_a_schema_of_another_version_is_refused_and_left_alone(context, path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")
    (path.parent / "cache.db-lock").write_bytes(b"tiercache 3\n")
    content = path.read_bytes()
    with pytest.raises(TierRefused, match="schema 3"):
        asyncio.run(use(context))
    assert path.read_bytes() == content


def test_the_entries_of_an_older_schema_are_dropped_and_the_file_is_used(context, path):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "DROP TABLE entries; CREATE TABLE entries (id INTEGER PRIMARY KEY, key BLOB)"
        )
        connection.execute("INSERT INTO entries VALUES (1, 'old')")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    (path.parent / "cache.db-lock").write_bytes(b"tiercache 1\n")
    inode = path.stat().st_ino
    assert asyncio.run(use(context)) == ([None] * len(KEYS), True)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM entries WHERE key = 'old'").fetchall() == [(0,)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert path.stat().st_ino == inode, "it was put aside as if it were damaged"
    assert (path.parent / "cache.db-lock").read_bytes() == b"tiercache 2\n"


def test_a_directory_in_its_place_is_refused(context):
    (context.directory / "cache.db").mkdir()
    with pytest.raises(TierRefused, match="a directory"):
        asyncio.run(use(context))
