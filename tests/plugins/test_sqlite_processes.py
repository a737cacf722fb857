"""Several processes on one file, processes that die, processes that fork, processes that just end."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import asynccontextmanager, closing

import pytest

from tiercache.testing.tiers import Surroundings, record_of
from tiercache.testing.tiers.frames import raised
from tiercache_plugins.tiers.sqlite import SqliteConfig
from tiercache_plugins.tiers.sqlite.rows import Rows

PRELUDE = """
import asyncio, os, random, sys, time
from pathlib import Path
from tiercache.testing.tiers import Surroundings, record_of
from tiercache.testing.tiers.frames import raised
from tiercache_plugins.tiers.sqlite import SqliteConfig

def build(**options):
    return SqliteConfig(path="cache.db", **options).build(Surroundings(Path(sys.argv[1])))

def batch(n):
    keys = [f"{n}:{m}" for m in range(8)]
    return [record_of(key, random.Random(key).randbytes(len(key) * 300), stamp=n + 1) for key in keys]
"""


def start(tmp_path, body, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(body), str(tmp_path), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )


@asynccontextmanager
async def opened(tmp_path, **options):
    tier = SqliteConfig(path="cache.db", **options).build(Surroundings(tmp_path))
    await tier.open()
    try:
        yield tier
    finally:
        await tier.close()


def asked(tmp_path, statement):
    with closing(sqlite3.connect(tmp_path / "cache.db")) as connection:
        return connection.execute(statement).fetchall()


TRUE_TOTALS = "SELECT count(*), sum(size) FROM entries"
TOTALS = "SELECT entries, bytes FROM totals"


def test_four_processes_share_a_file_and_count_right(tmp_path):
    body = """
    async def main(who):
        tier = build(max_bytes="2MiB")
        await tier.open()
        draw = random.Random(who)
        for n in range(60):
            keys = [f"{draw.randrange(600)}" for _ in range(20)]
            await tier.write([record_of(key, draw.randbytes(len(key) * 700), stamp=n) for key in keys[:10]])
            await tier.increment(record_of(f"count:{n % 3}", 1), 1)
            await tier.read(keys)
            await tier.delete(keys[8:12])
        assert tier.stats()["recovered"] == tier.stats()["corrupt"] == tier.stats()["errors_untold"] == 0
        await tier.close()

    asyncio.run(main(int(sys.argv[2])))
    """
    running = [start(tmp_path, body, who) for who in range(4)]
    assert [process.wait(60) for process in running] == [0, 0, 0, 0]
    for process in running:
        process.stdout.close()

    async def check():
        async with opened(tmp_path) as tier:
            return [await raised(tier, record_of(f"count:{n}", 0), 0) for n in range(3)]

    assert asyncio.run(check()) == [80, 80, 80]
    assert asked(tmp_path, TRUE_TOTALS) == asked(tmp_path, TOTALS)
    assert asked(tmp_path, "PRAGMA integrity_check") == [("ok",)]


def test_processes_that_open_a_new_file_together_agree(tmp_path):
    body = """
    async def main():
        tier = build()
        await tier.open()
        await tier.increment(record_of("count", 1), 1)
        await tier.close()

    while not Path(sys.argv[1], "go").exists():
        time.sleep(0.001)
    asyncio.run(main())
    """
    running = [start(tmp_path, body) for _ in range(4)]
    time.sleep(0.8)
    (tmp_path / "go").touch()
    for process in running:
        assert process.wait(30) == 0
        process.stdout.close()

    async def check():
        async with opened(tmp_path) as tier:
            return await raised(tier, record_of("count", 0), 0)

    assert asyncio.run(check()) == 4


def test_what_was_acknowledged_survives_a_kill(tmp_path):
    body = """
    async def main(start):
        tier = build()
        await tier.open()
        n = start
        while True:
            await tier.write(batch(n))
            print(n, flush=True)
            n += 1

    asyncio.run(main(int(sys.argv[2])))
    """
    namespace = {}
    exec(PRELUDE, namespace)
    acknowledged = -1
    for _ in range(3):
        process = start(tmp_path, body, acknowledged + 1)
        until = acknowledged + 40
        while acknowledged < until:
            acknowledged = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        process.stdout.close()
        assert process.wait(5) == -signal.SIGKILL

        async def check(until):
            async with opened(tmp_path) as tier:
                for n in range(until):
                    records = namespace["batch"](n)
                    frames = await tier.read([record.key for record in records])
                    # Who is killed between a commit and telling of it is followed by one who writes the
                    # same once more, and so under a later stamp.
                    assert [frame and frame[8:] for frame in frames] == [
                        record.frame[8:] for record in records
                    ], n
                assert tier.stats()["recovered"] == tier.stats()["corrupt"] == 0

        asyncio.run(check(acknowledged + 1))
        assert asked(tmp_path, TRUE_TOTALS) == asked(tmp_path, TOTALS)
    assert asked(tmp_path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("end", ["return", "raise RuntimeError", "sys.exit(3)"])
def test_a_process_that_never_closes_ends_at_once(tmp_path, end):
    body = f"""
    async def main():
        global kept
        kept = tier = build()
        await tier.open()
        await tier.write(batch(1))
        print("done", flush=True)
        {end}

    asyncio.run(main())
    """
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(body), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"done\n"
    began = time.monotonic()
    process.wait(10)
    assert time.monotonic() - began < 2
    process.stdout.close()
    process.stderr.close()
    assert process.returncode == {"return": 0, "raise RuntimeError": 1, "sys.exit(3)": 3}[end]

    async def check():
        async with opened(tmp_path) as tier:
            assert None not in await tier.read([f"1:{m}" for m in range(8)])

    asyncio.run(check())


def test_a_forked_child_opens_its_own_connections(tmp_path):
    body = """
    async def parent():
        tier = build()
        await tier.open()
        await tier.write(batch(1))
        children = []
        for n in (2, 3):
            if (pid := os.fork()) == 0:
                asyncio.set_event_loop(None)
                asyncio._set_running_loop(None)
                try:
                    asyncio.run(child(tier, n))
                except BaseException as error:
                    print(repr(error), file=sys.stderr, flush=True)
                    os._exit(1)
                os._exit(0)
            children.append(pid)
            await tier.write(batch(n + 10))
        codes = [os.waitpid(pid, 0)[1] for pid in children]
        assert codes == [0, 0], codes
        for n in (1, 2, 3, 12, 13):
            assert None not in await tier.read([record.key for record in batch(n)]), n
        await tier.close()

    async def child(tier, n):
        assert None not in await tier.read([record.key for record in batch(1)])
        await tier.write(batch(n))
        await tier.close()

    asyncio.run(parent())
    """
    process = start(tmp_path, body)
    assert process.wait(30) == 0
    process.stdout.close()
    assert asked(tmp_path, TRUE_TOTALS) == asked(tmp_path, TOTALS)
    assert asked(tmp_path, "PRAGMA integrity_check") == [("ok",)]


def test_closing_does_not_wait_for_a_long_statement(tmp_path):
    endless = """
        WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers) SELECT sum(n) FROM numbers
    """

    async def life():
        tier = SqliteConfig(path="cache.db").build(Surroundings(tmp_path))
        await tier.open()
        database = tier._database
        running = [
            asyncio.ensure_future(link.run(lambda raw: raw.execute(endless).fetchall()))
            for link in (database._reader, database._writer)
        ]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await tier.close()
        took = time.monotonic() - began
        assert all(
            isinstance(error, sqlite3.OperationalError)
            for error in await asyncio.gather(*running, return_exceptions=True)
        )
        return took

    assert asyncio.run(life()) < 5


def test_closing_while_calls_are_under_way_answers_all_of_them(tmp_path):
    async def life():
        async with opened(tmp_path) as tier:
            calls = [asyncio.ensure_future(tier.write([record_of(f"{n}")])) for n in range(50)]
            calls += [asyncio.ensure_future(tier.read([f"{n}"])) for n in range(50)]
            await asyncio.sleep(0)
        answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)
        assert all(isinstance(answer, list) for answer in answers)

    asyncio.run(life())


def test_another_process_that_stands_still_does_not_stop_us_for_ever(tmp_path):
    async def life():
        async with opened(tmp_path) as tier:
            await tier.write([record_of("a")])
        body = """
        import signal
        async def main():
            tier = build()
            await tier.open()
            with tier._database._place.held():
                print("held", flush=True)
                time.sleep(60)

        asyncio.run(main())
        """
        process = start(tmp_path, body)
        assert process.stdout.readline() == "held\n"
        try:
            async with opened(tmp_path, busy_timeout="100ms"):
                pass
        except Exception as error:
            assert "held the lock" in str(error)
        else:
            raise AssertionError("opened in spite of the lock")
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        async with opened(tmp_path, busy_timeout="100ms") as tier:
            assert (await tier.read(["a"]))[0] is not None

    asyncio.run(life())


def test_a_cancelled_call_does_no_harm(tmp_path, monkeypatch):
    write = Rows.write

    def slow(self, connection, records):
        time.sleep(0.1)
        return write(self, connection, records)

    async def life():
        async with opened(tmp_path) as tier:
            monkeypatch.setattr(Rows, "write", slow)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(tier.write([record_of("a")]), 0.02)
            assert list(await tier.write([record_of("b")])) == [1]
            assert None not in await tier.read(["a", "b"])

    asyncio.run(life())
