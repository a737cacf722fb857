"""Many rows in few statements: the two ways to find rows agree, and no batch takes a statement a row."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager, closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache import NEVER, Clock, Order
from tiercache.testing import FakeClock
from tiercache.testing.tiers import Surroundings, record_of
from tiercache_plugins.tiers.sqlite import SqliteConfig, batches, lists, statements
from tiercache_plugins.tiers.sqlite.batches import Finder, Saved, Saves, parts
from tiercache_plugins.tiers.sqlite.readings import Reading

KEYS = [b"k%d" % n for n in range(300)]
NOW = 1_000_000


@pytest.fixture
def connection():
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.text_factory = bytes
        for statement in (*statements.SCHEMA, *statements.NOTED):
            connection.execute(statement)
        yield connection


def saved(key: bytes, expires: int = 5 * NOW, frame: bytes = b"frame") -> Saved:
    return Saved(key, expires, len(frame), 7, frame)


def stored(connection):
    return connection.execute(
        """
        SELECT id, key, expires, created, last_read, reads, size, checksum, due, placed_read, placed_reads,
            frame
        FROM entries ORDER BY key
        """
    ).fetchall()


@pytest.mark.parametrize("finding", [statements.READ, statements.STANDING, statements.GOING])
@given(asked=st.lists(st.integers(0, 299), max_size=300), held=st.sets(st.integers(0, 299)))
def test_one_row_for_all_says_what_a_row_for_each_says(finding, asked, held):
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in statements.SCHEMA:
            connection.execute(statement)
        saves = Saves(connection, NOW)
        for number in held:
            # A damaged row may hold anything, and what is not there is nothing else than what is empty.
            saves.add(None, saved(KEYS[number], frame=b"" if number % 3 else b"f%d" % number))
        saves.flush()
        connection.execute("UPDATE entries SET expires = 'x', size = 'y', due = 'z' WHERE id % 5 = 0")
        long, wide = Finder(finding), Finder(finding)
        for part in parts([KEYS[number] for number in asked]):
            wide.waits = True
            assert sorted(wide.find(connection, part)) == sorted(long.find(connection, part))


def test_rows_that_come_slowly_are_asked_for_at_once_until_they_come_quickly(connection, monkeypatch):
    saves = Saves(connection, NOW)
    for key in KEYS:
        saves.add(None, saved(key))
    saves.flush()
    (part,) = parts(KEYS[:64])
    finder = Finder(statements.READ)
    asked: Counter[str] = Counter()
    connection.set_trace_callback(
        lambda statement: asked.update(["wide" if "LEFT JOIN" in statement else "long"])
    )
    for slow, expected in ((1.0, {"long": 1}), (-1.0, {"long": 1, "wide": 2}), (-1.0, {"wide": 2}),
                           (1.0, {"wide": 2}), (1.0, {"long": 1})):  # fmt: skip
        monkeypatch.setattr(batches, "_SLOW", slow)
        asked.clear()
        assert len([*finder.find(connection, part)]) == 64
        assert asked == expected


def test_large_frames_are_read_one_by_one_however_long_they_take(connection, monkeypatch):
    saves = Saves(connection, NOW)
    for key in KEYS[:64]:
        saves.add(None, saved(key, frame=b"f" * 20_000))
    saves.flush()
    monkeypatch.setattr(batches, "_SLOW", -1.0)
    (part,) = parts(KEYS[:64])
    finder = Finder(statements.READ)
    for waits in (False, True):
        finder.waits = waits
        assert len([*finder.find(connection, part)]) == 64
        assert not finder.waits


def test_nothing_is_asked_for_what_a_list_is_filled_up_with(connection):
    saves = Saves(connection, NOW)
    saves.add(None, saved(b""))
    saves.flush()
    (part,) = parts(KEYS[:17])
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    finder = Finder(statements.READ)
    for waits in (False, True):
        finder.waits = waits
        asked.clear()
        assert [*finder.find(connection, part)] == []
        assert len(asked) == 1


def test_large_frames_are_not_kept_until_all_are_stored(connection):
    saves = Saves(connection, NOW)
    saves.add(None, saved(KEYS[0]))
    saves.flush()
    saves.drop(1)
    saves.add(None, saved(KEYS[0], frame=b"f" * 20_000))
    saves.add(None, saved(KEYS[1]))
    assert [(row[1], len(row[-1])) for row in stored(connection)] == [(KEYS[0], 20_000)]


ROW = st.tuples(st.sampled_from(KEYS[:90]), st.integers(1, 9), st.sampled_from([b"a", b"b" * 20_000]))


@given(before=st.lists(ROW, unique_by=lambda row: row[0]), after=st.lists(ROW, unique_by=lambda row: row[0]))
def test_a_list_of_rows_is_stored_as_each_by_itself_would_be(before, after):
    held = []
    for together in (True, False):
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            for statement in statements.SCHEMA:
                connection.execute(statement)
            for now, rows in ((NOW, before), (2 * NOW, after)):
                standing = {key: (row, due) for row, key, *_, due, _, _, _ in stored(connection)}
                saves = Saves(connection, now)
                for key, expires, frame in rows:
                    row, due = standing.get(key, (None, 0))
                    saves.add(row, saved(key, expires * NOW, frame), sooner=expires * NOW < due)
                    if not together:
                        saves.flush()
                saves.flush()
            # Rows have other ids where the large ones were stored first.
            held.append([row[1:] for row in stored(connection)])
    assert held[0] == held[1]


def test_what_is_changed_by_ids_is_that_and_nothing_else(connection):
    saves = Saves(connection, NOW)
    for key in KEYS:
        saves.add(None, saved(key))
    saves.flush()
    batches.tell(connection, [Reading(row, row, NOW + row) for row in range(1, 101)])
    batches.change(connection, statements.PLACE, range(1, 71))
    batches.change(connection, statements.DROP, range(201, 301))
    found = {row[0]: row for row in stored(connection)}
    assert [*sorted(found)] == [*range(1, 201)]
    assert {row: values[5] for row, values in found.items()} == {
        row: row if row <= 100 else 0 for row in range(1, 201)
    }
    assert {row: (values[9], values[10]) for row, values in found.items()} == {
        row: (NOW + row, row) if row <= 70 else (NOW, 0) for row in range(1, 201)
    }


def test_numbers_come_in_their_order_and_what_is_none_is_left_out(connection):
    rows = "SELECT column1 AS a, column2 AS b FROM (VALUES (3, -5), (2, NULL), (1, 'x'), (0, 1.5))"
    statement = lists.numbers(("a", "b"), f"{rows} ORDER BY a DESC LIMIT 3")
    assert batches.numbers(connection, statement) == [(3, -5), (2, None), (1, None)]
    assert batches.numbers(connection, lists.numbers(("1",), "SELECT 1 WHERE 0")) == []


@asynccontextmanager
async def traced(tmp_path, clock, **options):
    tier = SqliteConfig(path="cache.db", **options).build(Surroundings(tmp_path, clock=Clock(clock)))
    await tier.open()
    try:
        said: list[str] = []
        for act in (tier._database.read, tier._database.write):
            await act(lambda connection: connection.set_trace_callback(said.append))
        yield tier, said
    finally:
        await tier.close()


MOST = 24
"""Statements of a transaction, however many rows it is about."""


def test_no_batch_takes_a_statement_a_row(tmp_path):
    async def main() -> None:
        clock = FakeClock()
        async with traced(tmp_path, clock, max_bytes=2**20) as (tier, said):

            async def done(act, *arguments):
                said.clear()
                result = await act(*arguments)
                # Once for each, as what a trigger does is told under the statement that set it off.
                assert len({*said}) <= MOST
                return result

            def some(name, ends=NEVER):
                return [record_of(f"{name}{n}", b"x" * 500, expires_at=ends) for n in range(64)]

            for turn in range(60):
                await done(tier.write, some(f"filling{turn}:"))
            assert tier.stats()["evicted"] > 500
            ends = int(clock() * 1e6) + 10_000_000
            await done(tier.write, some("new"))
            await done(tier.write, some("new", ends))
            await done(tier.write, some("new", ends - 1_000_000))
            keys = [f"new{n}" for n in range(64)]
            assert None not in await done(tier.read, keys)
            clock.advance(20)
            # Expired, and there as yet.
            await done(tier.write, some("new"))
            assert await done(tier.delete, [*keys, *keys]) == [True] * 64 + [False] * 64
            assert not any(await done(tier.delete, keys))
            assert await done(tier._database.write, tier._rows.wipe, b"filling", b"filling\xff")

    asyncio.run(main())


def test_reads_of_a_row_that_went_are_not_told_to_whom_its_id_is_given(tmp_path):
    async def main() -> None:
        clock = FakeClock()
        keys = [f"k{n}" for n in range(64)]
        async with traced(tmp_path, clock) as (tier, _):
            ends = int(clock() * 1e6) + 5_000_000
            await tier.write([record_of(key, b"old", expires_at=ends) for key in keys])
            for _ in range(50):
                await tier.read(keys[:3])
            clock.advance(10)
            # Expired and not swept: their rows go, and all ids are free.
            await tier.write([record_of(key, b"new", stamp=9) for key in reversed(keys)])
            await tier._database.write(tier._rows.note)
            told = "SELECT count(*) FROM noted"
            assert await tier._database.read(lambda connection: connection.execute(told).fetchone()) == (0,)

    asyncio.run(main())


def test_a_condition_that_is_no_whole_number_spares_all_the_same(connection):
    ranking = statements.Ranking(Order(by=("created",), spared="reads / 2.0", chance="reads = 0"))
    saves = Saves(connection, NOW)
    for key in KEYS[:3]:
        saves.add(None, saved(key))
    saves.flush()
    connection.execute("UPDATE entries SET reads = id - 1")
    assert [row[2] for row in batches.numbers(connection, ranking.first)] == [0, 1, 1]


def test_the_size_of_pages_is_that_of_the_file_that_is_open(tmp_path, monkeypatch):
    async def main() -> None:
        tier = SqliteConfig(path="cache.db").build(Surroundings(tmp_path, clock=Clock()))
        for size in (8192, 4096):
            monkeypatch.setattr(statements, "LAYOUT", (f"PRAGMA page_size = {size}", statements.LAYOUT[1]))
            await tier.open()
            try:
                await tier.write([record_of("a")])
                assert tier._rows._room._page == size
            finally:
                await tier.close()
            for path in tmp_path.iterdir():
                path.unlink()

    asyncio.run(main())
