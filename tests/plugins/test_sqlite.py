from __future__ import annotations

import asyncio
import contextvars
import os
import random
import sqlite3
import stat
import sys
import threading
import time
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from tiercache import NEVER, Clock, Order, PolicyConfig, TierError, TierRefused
from tiercache.testing import FakeClock
from tiercache.testing.tiers import Surroundings, record_of
from tiercache_plugins.tiers.sqlite import SqliteConfig, statements
from tiercache_plugins.tiers.sqlite.link import Link
from tiercache_plugins.tiers.sqlite.readings import Readings
from tiercache_plugins.tiers.sqlite.statements import Ranking


class Disorder(PolicyConfig):
    type: Literal["disorder"] = "disorder"


class ByLife(PolicyConfig):
    type: Literal["by_life"] = "by_life"
    order: ClassVar[Order | None] = Order(by=("expires", "created"))


class Stubborn(PolicyConfig):
    type: Literal["stubborn"] = "stubborn"
    order: ClassVar[Order | None] = Order(by=("created",), spared="reads >= 0", chance="reads = 0")


class MostReadFirst(PolicyConfig):
    type: Literal["most_read_first"] = "most_read_first"
    order: ClassVar[Order | None] = Order(by=("-reads", "last_read"))


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def context(tmp_path, clock):
    policies = {config.type_name(): config() for config in (Disorder, ByLife, Stubborn, MostReadFirst)}
    return Surroundings(tmp_path, clock=Clock(clock), policies=policies)


@asynccontextmanager
async def opened(context, **options):
    tier = SqliteConfig(**{"path": "cache.db"} | options).build(context)
    await tier.open()
    try:
        yield tier
    finally:
        await tier.close()


def rows(context, statement="SELECT count(*), coalesce(sum(size), 0) FROM entries"):
    with closing(sqlite3.connect(context.directory / "cache.db")) as connection:
        return connection.execute(statement).fetchall()


# Configuration


def test_a_policy_without_an_order_is_refused_with_the_names_of_those_that_have_one(context):
    ((option, message),) = SqliteConfig(policy="disorder").check(context)
    assert option == "policy"
    assert '"disorder"' in message
    assert '"hybrid"' in message
    with pytest.raises(TierRefused, match="disorder"):
        SqliteConfig(policy="disorder").build(context)


def test_a_home_directory_is_expanded(context, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()

    async def life():
        async with opened(context, path="~/sub/c.db"):
            pass

    asyncio.run(life())
    assert (tmp_path / "home/sub/c.db").exists()


def test_loading_the_configuration_brings_no_driver():
    code = (
        "import sys, tiercache_plugins.tiers.sqlite as tier; "
        "sys.exit(bool({'aiosqlite', 'sqlite3'} & {*sys.modules}) or not tier.tiercache_tiers())"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0


# Permissions


def test_files_and_new_directories_are_for_the_owner_alone(context, tmp_path):
    async def life():
        async with opened(context, path="a/b/cache.db") as tier:
            await tier.write([record_of("k")])
            return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").rglob("*")}

    before = os.umask(0)
    try:
        modes = asyncio.run(life())
    finally:
        os.umask(before)
    files = ("cache.db", "cache.db-wal", "cache.db-shm", "cache.db-lock")
    assert modes == {"b": 0o700} | dict.fromkeys(files, 0o600)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


def test_a_file_that_others_may_read_is_closed_to_them(context, tmp_path):
    async def life():
        async with opened(context):
            pass

    asyncio.run(life())
    (tmp_path / "cache.db").chmod(0o644)
    asyncio.run(life())
    assert stat.S_IMODE((tmp_path / "cache.db").stat().st_mode) == 0o600


def refused(context, match, **options):
    async def life():
        async with opened(context, **options):
            pass

    with pytest.raises(TierRefused, match=match):
        asyncio.run(life())


def test_a_directory_that_everybody_may_write_to_is_refused(context, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    refused(context, "everybody", path="open/cache.db")
    assert not list((tmp_path / "open").iterdir())
    (tmp_path / "open").chmod(0o1777)

    async def life():
        async with opened(context, path="open/cache.db"):
            pass

    asyncio.run(life())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_another_user_is_refused(context, tmp_path):
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    refused(context, "belongs to user 65534", path="theirs/cache.db")
    (tmp_path / "cache.db").touch()
    os.chown(tmp_path / "cache.db", 65534, 65534)
    refused(context, "belongs to user 65534")


def test_a_path_that_can_not_be_is_refused(context, tmp_path):
    (tmp_path / "file").touch()
    refused(context, "may be written to", path="file/cache.db")
    refused(context, "may be written to", path="x" * 300)
    refused(context, "no home directory", path="~nobody-of-that-name/cache.db")


@pytest.mark.parametrize("name", ["cache.db", "cache.db-wal", "cache.db-shm", "cache.db-lock"])
def test_a_symbolic_link_is_refused(context, tmp_path, name):
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    refused(context, "symbolic link")
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"


# Bounds


@pytest.mark.parametrize("policy", ["hybrid", "lru", "fifo", "by_life"])
def test_the_bound_holds_after_every_batch_and_the_file_stays_in_proportion(context, tmp_path, clock, policy):
    bound = 2**20
    draw = random.Random(1)

    async def life():
        async with opened(context, max_bytes=bound, policy=policy) as tier:
            for _ in range(120):
                clock.advance(1)
                batch = [
                    record_of(
                        f"{draw.randrange(4000)}", draw.randbytes(draw.choice((10, 300, 3000, 9000))), stamp=9
                    )
                    for _ in range(20)
                ]
                await tier.write(batch)
                await tier.read([f"{draw.randrange(4000)}" for _ in range(30)])
                stats = tier.stats()
                assert stats["bytes"] <= bound
                assert (tmp_path / "cache.db").stat().st_size <= bound * 1.25 + 96 * 8192
                assert (tmp_path / "cache.db-wal").stat().st_size <= 6 * 2**20
            assert stats["evicted"] > 500
            assert stats["bytes"] > bound * 0.6
            return stats

    stats = asyncio.run(life())
    assert rows(context) == [(stats["entries"], stats["bytes"])]
    assert rows(context, "PRAGMA integrity_check") == [("ok",)]


def test_a_file_with_pages_of_another_size_stays_in_proportion(context, tmp_path, monkeypatch):
    bound = 2**21

    async def life(count):
        async with opened(context, max_bytes=bound) as tier:
            for n in range(count):
                await tier.write([record_of(f"{n}", bytes(9000))])

    with monkeypatch.context() as patched:
        patched.setattr(statements, "LAYOUT", ("PRAGMA page_size = 16384", *statements.LAYOUT[1:]))
        asyncio.run(life(1))
    asyncio.run(life(300))
    assert rows(context, "PRAGMA page_size") == [(16384,)]
    assert bound < (tmp_path / "cache.db").stat().st_size <= bound * 1.25 + 2**19 + 4 * 16384


def test_a_record_larger_than_everything_is_not_stored_and_what_it_replaces_goes(context):
    async def life():
        async with opened(context, max_bytes=2**16) as tier:
            await tier.write([record_of("a", b"old", stamp=1), record_of("b")])
            assert list(await tier.write([record_of("a", bytes(2**16), stamp=2)])) == [0]
            first, second = await tier.read(["a", "b"])
            assert first is None, "the older value came back"
            assert second is not None

    asyncio.run(life())


def test_a_batch_sees_what_it_wrote_of_the_same_key(context, clock):
    async def life():
        async with opened(context) as tier:
            await tier.write([record_of("a", b"before", stamp=3), record_of("b", stamp=3)])
            over = context.clock.micros() - 1
            batch = [
                record_of("b", b"later", stamp=9),
                record_of("a", b"gone", stamp=4, expires_at=over),
                record_of("a", b"first", stamp=5),
                record_of("a", b"second", stamp=5),
                record_of("a", b"third", stamp=5)._replace(conditional=True),
            ]
            assert list(await tier.write(batch)) == [9, 0, 5, 6, 0]
            (frame,) = await tier.read(["a"])
            assert frame is not None
            assert b"second" in frame
            return tier.stats()

    stats = asyncio.run(life())
    assert rows(context) == [(stats["entries"], stats["bytes"])] != [(0, 0)]


def test_a_lowered_bound_is_reached_in_steps(context):
    async def life():
        async with opened(context) as tier:
            await tier.write([record_of(f"{n}", bytes(2000)) for n in range(2500)])
        async with opened(context, max_bytes=2**20) as tier:
            for n in range(30):
                await tier.write([record_of(f"x{n}")])
            return tier.stats()

    assert asyncio.run(life())["bytes"] <= 2**20
    assert (context.directory / "cache.db").stat().st_size < 3 * 2**20, "free pages were not given back"


def keys_left(context):
    return {key.decode() for (key,) in rows(context, "SELECT key FROM entries")}


@pytest.mark.parametrize(
    ("policy", "survives"), [("fifo", "never read, new"), ("lru", "read lately"), ("hybrid", "read often")]
)
def test_the_policy_says_what_goes_first(context, clock, policy, survives):
    async def life():
        async with opened(context, max_bytes=2**18, policy=policy) as tier:
            await tier.write([record_of("read often", bytes(1000)), record_of("read lately", bytes(1000))])
            for _ in range(9):
                clock.advance(1)
                await tier.read(["read often"])
            for n in range(800):
                clock.advance(1)
                if n % 100 == 0:
                    await tier.read(["read lately"])
                await tier.write([record_of(f"{n}", bytes(1000))])
            await tier.write([record_of("never read, new", bytes(1000))])

    asyncio.run(life())
    left = keys_left(context)
    assert survives in left
    assert "799" in left
    assert "0" not in left
    if policy == "fifo":
        assert not left & {"read often", "read lately"}
    else:
        assert "read lately" in left
    if policy == "lru":
        assert "read often" not in left


def test_expired_rows_go_before_any_other(context, clock):
    async def life():
        async with opened(context, max_bytes=2**18) as tier:
            soon = context.clock.micros() + 1_000_000
            await tier.write([record_of(f"keep{n}", bytes(1000)) for n in range(100)])
            await tier.write([record_of(f"gone{n}", bytes(1000), expires_at=soon) for n in range(100)])
            clock.advance(2)
            await tier.write([record_of(f"new{n}", bytes(1000)) for n in range(90)])
            return tier.stats()

    stats = asyncio.run(life())
    assert (stats["expired"], stats["evicted"]) == (100, 0)
    assert len(keys_left(context)) == 190


def test_a_policy_that_spares_everything_can_not_break_the_bound(context):
    async def life():
        async with opened(context, max_bytes=2**17, policy="stubborn") as tier:
            for n in range(40):
                await tier.write([record_of(f"{n}:{m}", bytes(1000)) for m in range(8)])
            return tier.stats()["bytes"]

    assert asyncio.run(life()) <= 2**17


def test_another_policy_finds_its_order_in_an_old_file(context):
    async def life():
        for policy in ("lru", "fifo", "lru"):
            async with opened(context, policy=policy, max_bytes=2**16) as tier:
                await tier.write([record_of(f"{policy}{n}", bytes(1000)) for n in range(100)])
                assert tier.stats()["bytes"] <= 2**16

    asyncio.run(life())
    assert len(rows(context, "SELECT name FROM sqlite_master WHERE name GLOB 'order_*'")) == 1


def test_every_order_is_served_by_its_index(context):
    async def life(policy):
        async with opened(context, policy=policy):
            plan = rows(context, "EXPLAIN QUERY PLAN " + Ranking(context.policy(policy).order).first)
            assert "USING INDEX order_" in str(plan) or "USING COVERING INDEX order_" in str(plan), plan
            assert "TEMP B-TREE" not in str(plan), plan

    for policy in ("hybrid", "lru", "fifo", "by_life"):
        asyncio.run(life(policy))


def test_wrong_totals_are_counted_anew_when_nothing_is_left_to_evict(context):
    async def life():
        async with opened(context, max_bytes=2**16) as tier:
            await tier.write([record_of("a")])
        with closing(sqlite3.connect(context.directory / "cache.db")) as connection:
            connection.execute("UPDATE totals SET bytes = 1 << 40")
            connection.commit()
        async with opened(context, max_bytes=2**16) as tier:
            await tier.write([record_of("b")])
            await tier.write([record_of("c")])
            return tier.stats()

    stats = asyncio.run(life())
    assert rows(context) == [(stats["entries"], stats["bytes"])]


@pytest.mark.parametrize("policy", ["lru", "lfu", "most_read_first"])
@pytest.mark.parametrize("seed", range(3))
def test_what_was_read_or_written_since_is_evicted_in_its_new_place(context, clock, policy, seed):
    draw = random.Random(seed)
    held = {}

    def rank(key):
        reads, last = held[key]
        return {"lru": (last,), "lfu": (reads, last), "most_read_first": (-reads, last)}[policy]

    async def life():
        async with opened(context, max_bytes=2**16, policy=policy) as tier:
            await tier.write([record_of("10", bytes(2000))])
            room = 2**16 // tier.stats()["bytes"]
            await tier.delete(["10"])
            for turn in range(1, 250):
                clock.advance(1)
                key = str(draw.randrange(10, 10 + 3 * room))
                if draw.random() < 0.6 and held:
                    key = draw.choice(list(held))
                    await tier.read([key])
                    held[key] = held[key][0] + 1, turn
                    if draw.random() < 0.3:
                        await tier._database.write(tier._rows.note)
                else:
                    await tier.write([record_of(key, bytes(2000), stamp=turn)])
                    held[key] = held.get(key, (0, 0))[0], turn
                    while len(held) > room:
                        del held[min(held, key=rank)]
                    assert keys_left(context) == set(held)
            return tier.stats()["evicted"]

    assert asyncio.run(life()) > 20


def test_a_row_goes_when_it_expires_by_its_last_write(context, clock):
    async def life():
        async with opened(context) as tier:
            soon, late = (context.clock.micros() + seconds * 1_000_000 for seconds in (10, 100))
            lives = {
                "longer": (soon, late),
                "shorter": (late, soon),
                "an end": (NEVER, soon),
                "none": (soon, NEVER),
            }
            for turn in (0, 1):
                for key, life in lives.items():
                    await tier.write([record_of(key, expires_at=life[turn], stamp=turn + 1)])
            clock.advance(11)
            await tier.write([record_of("x")])
            assert keys_left(context) == {"longer", "none", "x"}
            clock.advance(100)
            await tier.write([record_of("y")])
            assert keys_left(context) == {"none", "x", "y"}
            assert tier.stats()["expired"] == 3

    asyncio.run(life())


def test_a_write_among_many_rows_takes_the_steps_of_one_among_few(context):
    async def steps(tier, count):
        taken = 0

        def step():
            nonlocal taken
            taken += 1
            return 0

        later = context.clock.micros() + 3_600_000_000
        for start in range(0, count, 500):
            keys = range(start, min(start + 500, count))
            await tier.write([record_of(f"{n}", expires_at=later) for n in keys])
        await tier._database.write(lambda connection: connection.set_progress_handler(step, 1))
        await tier.write([record_of(f"{n}", stamp=2, expires_at=later) for n in range(8)])
        await tier._database.write(lambda connection: connection.set_progress_handler(None, 1))
        return taken

    async def life():
        async with opened(context) as tier:
            few = await steps(tier, 50)
            assert 0 < few
            assert await steps(tier, 4000) < 1.5 * few

    asyncio.run(life())


# Reads are noted


NOTED = """
    SELECT reads + coalesce(times, 0), max(last_read, coalesce(at, 0))
    FROM entries LEFT JOIN noted ON row = id WHERE key = x'61'
"""


def test_reads_are_written_down_after_a_while_and_at_the_end(context, clock):
    async def life():
        async with opened(context) as tier:
            await tier.write([record_of("a")])
            began = context.clock.micros()
            for _ in range(3):
                clock.advance(1)
                await tier.read(["a"])
            await tier.write([record_of("b")])
            assert rows(context, NOTED) == [(0, began)], "a read cost a page"
            clock.advance(60)
            await tier.read(["a"])
            while tier._noting is not None:
                await asyncio.sleep(0.01)
            assert rows(context, NOTED) == [(4, context.clock.micros())], "yet it was long"
            for _ in range(2):
                clock.advance(1)
                await tier.read(["a"])

    asyncio.run(life())
    assert rows(context, NOTED) == [(6, context.clock.micros())], "closing notes the rest"


def test_a_write_does_not_look_through_what_was_read(context, monkeypatch):
    async def life():
        async with opened(context) as tier:
            await tier.write([record_of("a")])
            await tier.read(["a"])
            with monkeypatch.context() as patched:
                patched.setattr(Readings, "take", None)
                await tier.write([record_of("b")])
            assert tier._rows.waiting == 1

    asyncio.run(life())
    assert rows(context, NOTED)[0][0] == 1


def test_notes_go_with_their_rows_and_those_that_came_too_late_are_swept(context, clock):
    async def life():
        async with opened(context) as tier, opened(context) as other:
            await tier.write([record_of(f"{n}") for n in range(300)])
            await tier.read([f"{n}" for n in range(300)])
            await tier._database.write(tier._rows.note)
            assert rows(context, "SELECT count(*) FROM noted") == [(300,)]
            await tier.delete([f"{n}" for n in range(100)])
            assert rows(context, "SELECT count(*), min(row) FROM noted") == [(200, 101)]
            # Deleted by somebody else, before what was read here is written down.
            await tier.read([f"{n}" for n in range(100, 300)])
            await other.delete([f"{n}" for n in range(100, 299)])
            # Deleted here: what was read is forgotten.
            await tier.read(["299"])
            await tier.delete(["299"])
            assert tier._rows.waiting == 199
            await tier.write([record_of("new")])
            for _ in range(3):
                await tier.read(["new"])
                await tier._database.write(tier._rows.note)
            assert rows(context, "SELECT count(*), min(times) FROM noted, entries WHERE id = row") == [(1, 3)]
            assert rows(context, "SELECT count(*) FROM noted") == [(1,)]

    asyncio.run(life())


def test_what_one_process_reads_another_does_not_evict(context, clock):
    async def life():
        async with opened(context, max_bytes=2**18) as reader, opened(context, max_bytes=2**18) as writer:
            await writer.write([record_of("read", bytes(1000)), record_of("unread", bytes(1000))])
            for n in range(400):
                clock.advance(1)
                if n % 20 == 0:
                    await reader.read(["read"])
                    await reader._database.write(reader._rows.note)
                await writer.write([record_of(f"{n}", bytes(1000))])
            assert writer.stats()["evicted"] > 100

    asyncio.run(life())
    assert "read" in keys_left(context)
    assert "unread" not in keys_left(context)


def test_reads_are_not_noted_for_a_policy_that_does_not_ask(context):
    async def life():
        async with opened(context, policy="fifo") as tier:
            await tier.write([record_of("a")])
            await tier.read(["a"])

    asyncio.run(life())
    assert rows(context, "SELECT reads FROM entries") == [(0,)]


# Trouble


def test_a_full_disk_skips_writes_and_reads_go_on(context):
    async def life():
        async with opened(context) as tier:
            await tier.write([record_of("a")])
            writer = tier._database._writer
            await writer.run(lambda raw: raw.execute("PRAGMA max_page_count = 12").fetchall())
            with pytest.raises(TierError, match="full"):
                await tier.write([record_of("b", bytes(2**20))])
            first, second = await tier.read(["a", "b"])
            assert (first is None, second is None) == (False, True)
            await writer.run(lambda raw: raw.execute("PRAGMA max_page_count = 100000").fetchall())
            assert list(await tier.write([record_of("b", bytes(2**20))])) == [1]
            assert tier.stats()["recovered"] == 0

    asyncio.run(life())


def test_a_caller_s_mistake_costs_nobody_the_database(context):
    async def life():
        async with opened(context) as tier:
            await tier.write([record_of("a")])
            for _ in range(5):
                with pytest.raises(TierError):
                    await tier.read(["\ud800"])
                with pytest.raises(TierError):
                    await tier.write([record_of("b")._replace(expires_at=NEVER + 1)])
            assert (await tier.read(["a"]))[0] is not None

    asyncio.run(life())


def test_a_tier_that_is_not_open_says_so(context):
    tier = SqliteConfig(path="cache.db").build(context)
    with pytest.raises(TierError, match="not open"):
        asyncio.run(tier.read(["a"]))


def test_a_locked_database_is_waited_for_without_blocking_the_loop(context):
    async def life():
        async with opened(context, busy_timeout="300ms") as tier:
            with closing(sqlite3.connect(context.directory / "cache.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                turns = 0
                writing = asyncio.ensure_future(tier.write([record_of("a")]))
                while not writing.done():
                    turns += 1
                    await asyncio.sleep(0.01)
                with pytest.raises(TierError, match="locked"):
                    await writing
                assert turns > 10
                assert list(await tier.read(["a"])) == [None]
                other.execute("ROLLBACK")
            assert list(await tier.write([record_of("a")])) == [1]

    asyncio.run(life())


def test_a_link_runs_a_whole_function_in_its_own_thread(tmp_path):
    async def life():
        link = await Link.to(str(tmp_path / "x.db"), 1.0)
        name, daemon, one = await link.run(
            lambda raw: (
                threading.current_thread().name,
                threading.current_thread().daemon,
                raw.execute("SELECT 1").fetchone(),
            )
        )
        assert name != threading.current_thread().name
        assert daemon, "a thread that is none keeps the interpreter from ending"
        assert one == (1,)
        assert await link.close()

    asyncio.run(life())


def test_what_a_function_raises_comes_back_and_the_next_is_called(tmp_path):
    async def life():
        link = await Link.to(str(tmp_path / "x.db"), 1.0)
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match="no such table"):
                await link.run(lambda raw: raw.execute("SELECT * FROM nowhere"))
            assert await link.run(lambda raw, *more: more, 1, 2) == (1, 2)
        assert await link.close()
        with pytest.raises(ValueError, match="closed"):
            await link.run(lambda raw: None)

    asyncio.run(life())


def test_a_link_to_what_can_not_be_opened_leaves_no_thread(tmp_path):
    async def life():
        with pytest.raises(sqlite3.OperationalError):
            await Link.to(str(tmp_path / "nowhere" / "x.db"), 1.0)

    before = threading.active_count()
    asyncio.run(life())
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_thread_that_is_gone_before_it_is_rung_for_fails_no_close(tmp_path, monkeypatch):
    over, rings = threading.Event(), []

    async def life():
        link = await Link.to(str(tmp_path / "x.db"), 1.0)
        thread = await link.run(lambda raw: threading.current_thread())
        loop, write = asyncio.get_running_loop(), os.write
        answer = loop.call_soon_threadsafe

        def answer_and_linger(*arguments):
            answer(*arguments)
            over.wait(10)

        def ring(bell, tone):
            rings.append(tone)
            if len(rings) == 2:
                over.set()
                thread.join(10)
            return write(bell, tone)

        monkeypatch.setattr(loop, "call_soon_threadsafe", answer_and_linger)
        monkeypatch.setattr(os, "write", ring)
        assert await link.close()
        assert not thread.is_alive()

    asyncio.run(life())
    assert len(rings) == 2, "one for the closing of the connection, one for the end"


def test_callers_that_gave_up_cost_the_others_nothing(tmp_path):
    async def life():
        link = await Link.to(str(tmp_path / "x.db"), 1.0)
        goes_on = threading.Event()
        held = asyncio.ensure_future(link.run(lambda raw: goes_on.wait(10)))
        callers = [asyncio.ensure_future(link.run(lambda raw, number: number, n)) for n in range(4)]
        await asyncio.sleep(0)
        held.cancel()
        callers[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
        goes_on.set()
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*callers, return_exceptions=True)
        assert [answers[0], *answers[2:]] == [0, 2, 3]
        assert isinstance(answers[1], asyncio.CancelledError)
        assert await link.close()

    asyncio.run(life())


def test_each_caller_goes_on_in_its_own_context(tmp_path):
    who = contextvars.ContextVar("who")

    async def caller(link, name):
        who.set(name)
        task = asyncio.current_task()
        await link.run(lambda raw: None)
        assert asyncio.current_task() is task
        return who.get()

    async def life():
        link = await Link.to(str(tmp_path / "x.db"), 1.0)
        assert await asyncio.gather(*(caller(link, n) for n in range(9))) == [*range(9)]
        assert await link.close()

    asyncio.run(life())


def test_a_loop_that_ended_before_its_answer_costs_the_thread_nothing(tmp_path):
    goes_on, links = threading.Event(), []

    async def life():
        links.append(await Link.to(str(tmp_path / "x.db"), 1.0))
        waiting = asyncio.ensure_future(links[0].run(lambda raw: goes_on.wait(10)))
        await asyncio.sleep(0)
        assert not waiting.done()

    async def again():
        async with asyncio.timeout(10):
            assert await links[0].run(lambda raw: 5) == 5
        assert await links[0].close()

    asyncio.run(life())
    goes_on.set()
    asyncio.run(again())


def test_the_page_layout_is_the_measured_one(context):
    async def life():
        async with opened(context):
            pass

    asyncio.run(life())
    assert rows(context, "PRAGMA page_size") == [(4096,)]
    assert rows(context, "PRAGMA auto_vacuum") == [(2,)]
    assert rows(context, "PRAGMA journal_mode") == [("wal",)]
    assert not Path(f"{context.directory}/cache.db-wal").exists()
