"""What a tier that was away is told once it is back, and what nobody is given until then."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gated import document, opened, tier
from marked import marked
from tiercache.engine.codec import tombstone
from tiercache.engine.guard import REOPEN_AFTER
from tiercache.frame import restamped, stamp_of
from tiercache.testing import FakeClock

KEYS = ("a", "b", "c")
STEP = st.one_of(
    st.tuples(st.just("set"), st.sampled_from(KEYS)),
    st.tuples(st.just("delete"), st.sampled_from(KEYS)),
    st.tuples(st.just("get"), st.sampled_from(KEYS)),
    st.tuples(st.just("clear"), st.none()),
    st.tuples(st.just("break"), st.none()),
    st.tuples(st.just("mend"), st.none()),
    st.tuples(st.just("advance"), st.none()),
)


def alone(clock, **stage):
    wanted = document(all={"tiers": ["shelf"], "ttl": "1h"})
    wanted["tier"]["shelf"].update(stage)
    return opened(wanted, clock=clock)


async def recovered(cache, clock):
    far = cache._house.fars["shelf"]
    for _ in range(10):
        clock.advance(REOPEN_AFTER * 30)
        await cache.get("nobody")
        await far.idle()
    assert cache.stats().tiers["shelf"].queued == 0


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_no_read_gives_what_was_replaced_and_in_the_end_the_tier_holds_what_was_said_last(steps):
    async def main():
        clock = FakeClock()
        said: dict[str, int] = {}
        async with alone(clock) as cache:
            shelf = tier(cache, "shelf")
            for number, (what, key) in enumerate(steps):
                if what == "set":
                    await cache.set(key, number, ttl="never")
                    said[key] = number
                elif what == "delete":
                    await cache.delete(key)
                    said.pop(key, None)
                elif what == "clear":
                    await cache.clear()
                    said.clear()
                elif what == "get":
                    found = await cache.get(key)
                    assert found in {None, said.get(key)}
                elif what == "advance":
                    clock.advance(1.1)
                else:
                    shelf.error = OSError("gone") if what == "break" else None
            shelf.error = None
            await recovered(cache, clock)
            held = await cache.get_many(KEYS)
            assert held == said

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["able", "gated"])
def test_a_delete_is_made_good_against_what_is_older_and_spares_what_is_newer(kind):
    async def main():
        clock = FakeClock()
        async with alone(clock, type=kind) as cache, alone(clock, type=kind) as other:
            shelf = tier(cache, "shelf")
            tier(other, "shelf").rows = shelf.rows
            await cache.set("old", 1)
            await cache.set("new", 1)
            shelf.error = OSError("gone")
            await cache.delete("old")
            await cache.delete("new")
            assert cache.stats().tiers["shelf"].queued == 2
            clock.advance(1)
            await other.set("new", 2)
            shelf.error = None
            assert await cache.get("old") is None
            await recovered(cache, clock)
            assert await cache.get("old") is None
            assert await cache.get("new") == 2

    asyncio.run(main())


def test_a_write_that_was_given_up_and_arrived_late_does_not_keep_out_the_last_one():
    async def main():
        clock = FakeClock()
        async with alone(clock) as cache:
            shelf = tier(cache, "shelf")
            await cache.set("k", 1)
            ((address, (frame, expires_at)),) = shelf.rows.items()
            shelf.error = OSError("gone")
            clock.advance(1)
            await cache.set("k", 2)
            shelf.rows[address] = restamped(frame, stamp_of(frame) + 10**10), expires_at
            shelf.error = None
            await recovered(cache, clock)
            assert await cache.get("k") == 2

    asyncio.run(main())


def overtaken(clock, earlier, later):
    """Return what the tier holds where a delete of *earlier* arrived after one of *later*: its date is of the
    first, its stamp above that of the second. Both in seconds.
    """
    until = int((clock() + 60) * 1_000_000)
    frame = tombstone(b"tiercache:k", int(earlier * 1_000_000), until)
    return restamped(frame, int(later * 1_000_000) + 1), until


def test_a_write_that_was_missed_stays_out_where_a_later_delete_was_overtaken_by_an_earlier_one():
    async def main():
        clock = FakeClock()
        async with alone(clock) as cache:
            shelf = tier(cache, "shelf")
            start = clock()
            clock.advance(1)
            shelf.error = OSError("gone")
            await cache.set("k", "deleted since")
            shelf.error = None
            shelf.rows["tiercache:k"] = overtaken(clock, start, start + 2)
            clock.advance(2)
            await recovered(cache, clock)
            assert await cache.get("k") is None
            assert not shelf.living()

    asyncio.run(main())


def test_a_farther_tier_is_not_asked_for_what_a_later_delete_ended_though_an_earlier_one_overtook_it():
    async def main():
        clock = FakeClock()
        routes = {"all": {"tiers": ["shelf", "cellar"], "ttl": "1h"}}
        async with opened(document(**routes), clock=clock) as cache:
            start = clock()
            clock.advance(1)
            await cache.set("k", "deleted since")
            clock.advance(2)
            tier(cache, "shelf").rows["tiercache:k"] = overtaken(clock, start, start + 2)
            assert await cache.get("k") is None
            assert not await cache.exists("k")
            assert [key async for key in cache.keys()] == []
            assert await cache.delete("k") is False

    asyncio.run(main())


def test_more_than_may_wait_is_given_up_with_all_that_the_tier_holds():
    async def main():
        clock = FakeClock()
        async with alone(clock) as cache:
            shelf, recovery = tier(cache, "shelf"), cache._house.fars["shelf"].recovery
            recovery._most = 3
            await cache.set("before", 1)
            shelf.error = OSError("gone")
            for number in range(5):
                await cache.set(f"k{number}", 1)
            assert recovery.whole
            shelf.error = None
            clock.advance(REOPEN_AFTER)
            assert await cache.get("before") is None
            await recovered(cache, clock)
            # What came when there was no more room was kept.
            assert shelf.living() == {"tiercache:k4"}
            await cache.set("after", 1)
            assert await cache.get("after") == 1

    asyncio.run(main())


def test_values_give_way_before_keys_where_bytes_run_out():
    async def main():
        clock = FakeClock()
        async with alone(clock) as cache:
            shelf, recovery = tier(cache, "shelf"), cache._house.fars["shelf"].recovery
            recovery._most_bytes = 2500
            await cache.set_many({"a": 1, "b": 1, "c": 1})
            shelf.error = OSError("gone")
            for key in KEYS:
                await cache.set(key, "x" * 1000)
            assert len(recovery) == 3
            shelf.error = None
            await recovered(cache, clock)
            assert await cache.get_many(KEYS) == {"b": "x" * 1000, "c": "x" * 1000}

    asyncio.run(main())


def test_a_value_whose_time_is_over_is_not_written_but_what_it_replaced_goes():
    async def main():
        clock = FakeClock()
        async with alone(clock) as cache:
            shelf = tier(cache, "shelf")
            await cache.set("k", "old", ttl="never")
            shelf.error = OSError("gone")
            await cache.set("k", "new", ttl=1)
            clock.advance(2)
            shelf.error = None
            await recovered(cache, clock)
            assert await cache.get("k") is None

    asyncio.run(main())


def test_what_was_deleted_after_a_clear_that_a_tier_missed_stays_away_whoever_puts_it_back():
    async def main():
        clock = FakeClock()
        async with alone(clock) as cache, alone(clock) as other:
            shelf, others = tier(cache, "shelf"), tier(other, "shelf")
            others.rows = shelf.rows
            shelf.error = others.error = OSError("gone")
            await cache.clear()
            clock.advance(1)
            await other.set("k", "old")
            clock.advance(1)
            await cache.delete("k")
            for back in (cache, other):
                tier(back, "shelf").error = None
                while back.stats().tiers["shelf"].queued:
                    clock.advance(REOPEN_AFTER)
                    await back.get("nobody")
                    await back._house.fars["shelf"].idle()
            assert await cache.get("k") is None
            assert await other.get("k") is None

    asyncio.run(main())


def test_what_a_shared_tier_was_never_told_kills_what_other_processes_put_back():
    async def main():
        clock = FakeClock()
        wanted = marked()
        wanted["route"]["all"]["tiers"] = ["shelf"]
        del wanted["tier"]["cellar"], wanted["tier"]["memory"]
        async with (
            opened(wanted, clock=clock, plugins=["marked"]) as cache,
            opened(wanted, clock=clock, plugins=["marked"]) as other,
        ):
            shelf, others = tier(cache, "shelf"), tier(other, "shelf")
            others.rows = shelf.rows
            cache._house.fars["shelf"].recovery._most = 2
            shelf.error = others.error = OSError("gone")
            await other.set("k0", "old")
            clock.advance(1)
            for number in range(4):
                await cache.delete(f"k{number}")
            for back in (cache, other):
                tier(back, "shelf").error = None
                while back.stats().tiers["shelf"].queued:
                    clock.advance(REOPEN_AFTER)
                    await back.get("nobody")
                    await back._house.fars["shelf"].idle()
            assert "tiercache:k0" in shelf.living()
            assert await cache.get("k0") is None
            assert shelf.markers.keys() == {"*"}

    asyncio.run(main())


@pytest.mark.parametrize("change", ["set", "delete"])
def test_what_is_made_good_is_news_to_processes_that_keep_what_the_tier_does_not(change):
    async def main():
        clock = FakeClock()
        sent = []
        async with alone(clock) as cache:
            shelf = tier(cache, "shelf")
            write = shelf.write
            shelf.error = OSError("gone")
            await (cache.set("k", 1) if change == "set" else cache.delete("k"))
            shelf.error = None

            async def noted(records):
                sent.extend(records)
                return await write(records)

            shelf.write = noted
            await recovered(cache, clock)
            assert [(record.conditional, record.news) for record in sent] == [(True, True)]

    asyncio.run(main())
