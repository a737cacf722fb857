"""Hosts whose clocks are wrong, before a shared tier that has one: all date by that."""

from __future__ import annotations

import asyncio
import itertools
import time
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from servers import Server
from tiercache import Cache, Clock
from tiercache.engine.guard import Guard
from tiercache.engine.offset import AGAIN, BURST, QUESTIONS, Offset

HOUR = 3600.0


def fleet(server: Server, act, *skews: float, bus: str = "auto", **route: bool) -> None:
    server.ask("FLUSHALL")

    async def life() -> None:
        caches = []
        try:
            for skew in skews:
                cache = Cache.open(
                    {
                        "cache": {"namespace": "skewed", "bus": bus},
                        "tier": {
                            "memory": {"type": "memory"},
                            "far": {"type": "redis", "url": server.url, "timeout": "30s", "deadline": "60s"},
                        },
                        "route": {"all": {"tiers": ["memory", "far"], "ttl": "10m", **route}},
                    }
                )
                cache._clock.wall = lambda skew=skew: time.time() + skew
                caches.append(await cache.start())
            await act(*caches)
        finally:
            for cache in caches:
                await cache.close()

    asyncio.run(life())


def test_what_is_fresh_on_one_host_is_fresh_on_all(valkey_server):
    async def act(ahead, behind):
        await ahead.set("a", 1)
        await behind.set("b", 2)
        assert await behind.get("a") == 1
        assert await ahead.get("b") == 2
        assert 590 < await behind.ttl("a") <= 601
        assert 590 < await ahead.ttl("b") <= 601

    fleet(valkey_server, act, HOUR, -HOUR)


def test_who_writes_last_wins_whatever_the_clocks_say(valkey_server):
    async def act(ahead, behind):
        await ahead.set("k", 1)
        await behind.set("k", 2)
        ahead._house.forget("k")
        assert await ahead.get("k") == 2
        loaded = await behind.get_or_set("new", lambda: 3)
        await ahead.set("new", 4)
        behind._house.forget("new")
        assert (loaded, await behind.get("new")) == (3, 4)

    fleet(valkey_server, act, HOUR, -HOUR)


def test_an_invalidation_of_a_host_that_is_behind_reaches_what_one_ahead_has_stored(valkey_server):
    async def act(ahead, behind):
        await ahead.set("k", 1, tags=["red"])
        await behind.invalidate(tags=["red"])
        ahead._house.forget("k")
        assert await behind.get("k") is None
        async with asyncio.timeout(30):
            while await ahead.get("k") is not None:
                await asyncio.sleep(0.01)
        await ahead.set("k", 2, tags=["red"])
        assert await behind.get("k") == 2

    fleet(valkey_server, act, HOUR, -HOUR)


class Watch:
    """A tier with a clock, that takes its time to answer: as long there, and as long back, in turn."""

    def __init__(self, now, ahead: float, ways=((0.0, 0.0),)) -> None:
        self.now = now
        self.ahead = ahead
        self.ways = itertools.cycle(ways)
        self.asked = 0

    async def open(self) -> None:
        pass

    async def time(self) -> int:
        there, back = next(self.ways)
        self.asked += 1
        self.now[0] += there
        told = int((self.now[0] + self.ahead) * 1e6)
        self.now[0] += back
        return told


def measured(*bursts, ahead=(50.0,)) -> tuple[int, int]:
    """Return what the clock was moved by, and its doubt, after *bursts* of questions that took such ways,
    before a clock that was so far *ahead* at each.
    """
    now = [1000.0]
    clock = Clock()
    clock.wall = clock.monotonic = lambda: now[0]

    async def main() -> None:
        watch = Watch(now, 0.0)
        offset = Offset(Guard("far", watch, clock), clock)  # type: ignore[arg-type]
        for ways, watch.ahead in zip(bursts, itertools.cycle(ahead)):
            watch.ways = itertools.cycle(ways)
            await offset.measure()
            now[0] += AGAIN

    asyncio.run(main())
    return clock.shift, clock.doubt


def test_the_quickest_answer_decides():
    shift, doubt = measured([(0.03, 0.0), (0.001, 0.001), (0.0, 0.02)])
    assert abs(shift - 50_000_000) <= 2
    assert abs(doubt - 1_000) <= 2


def test_who_answers_slowly_is_not_asked_often():
    clock, now = Clock(), [1000.0]
    clock.wall = clock.monotonic = lambda: now[0]
    for way, asked in ((BURST, 1), (BURST / 10, 6), (0.001, QUESTIONS)):
        watch = Watch(now, 5.0, [(way, way)])
        asyncio.run(Offset(Guard("far", watch, clock), clock).measure())  # type: ignore[arg-type]
        assert watch.asked == asked


def test_an_answer_counts_until_a_younger_one_says_more():
    quick, slow = [(0.001, 0.001)], [(0.04, 0.0)]
    shift, doubt = measured(quick, slow, slow)
    assert abs(shift - 50_000_000) <= 2
    # What the clocks may have drifted apart in 20 s is added.
    assert 1_300 <= doubt <= 1_310
    assert abs(measured(slow, quick)[1] - 1_000) <= 2


def test_a_clock_that_was_set_is_followed_at_once():
    quick, slow = [(0.001, 0.001)], [(0.02, 0.02)]
    shift, doubt = measured(quick, slow, ahead=(50.0, 60.0))
    assert abs(shift - 60_000_000) <= doubt + 2
    assert abs(doubt - 20_000) <= 2


WAY = st.integers(0, 500).map(lambda milliseconds: milliseconds / 1000)


BURSTS = st.lists(st.lists(st.tuples(WAY, WAY), min_size=1, max_size=QUESTIONS), min_size=1, max_size=5)


@given(BURSTS)
@example([[(0.5, 0.0)]])
@example([[(0.0, 0.5)]])
@example([[(0.3, 0.1)]] * 12)
def test_the_error_is_within_the_doubt(bursts):
    shift, doubt = measured(*bursts)
    assert abs(shift - 50_000_000) <= doubt + 2


def test_a_clock_that_a_test_gave_is_not_moved():
    clock = Clock(lambda: 5.0)

    async def main() -> None:
        await Offset(Guard("far", Watch([5.0], 50.0), clock), clock).measure()  # type: ignore[arg-type]

    asyncio.run(main())
    assert (clock.shift, clock.doubt, clock.micros()) == (0, 0, 5_000_000)


def test_what_is_final_is_dated_behind_whatever_anybody_began_before():
    clock = Clock(lambda: 5.0)
    clock.doubt = 300
    assert clock.final() > 5_000_300
    assert clock.stamp() > clock.final() - 3


@given(BURSTS, BURSTS, st.integers(0, 1_000_000))
def test_what_began_when_another_was_done_is_dated_after_it(first, second, took):
    doing, following = Clock(), Clock()
    (doing.shift, doing.doubt), (following.shift, following.doubt) = measured(*first), measured(*second)
    now = 1000.0
    doing.wall = following.wall = lambda: now
    stamp = doing.final()
    now += took / 1_000_000
    # Its caller waits until then: not at all, where the change took longer than the quickest question.
    wait = doing.ahead(stamp)
    assert wait * 1_000_000 <= max(0, 2 * doing.doubt + 3 - took)
    # Whole microseconds were cut on the way.
    now += wait + 3e-6
    assert doing.ahead(stamp) == 0
    assert following.final() > stamp


def test_nobody_waits_for_a_stamp_of_a_clock_that_is_wrong():
    clock = Clock(lambda: 5.0)
    clock.doubt = 300
    assert clock.ahead(clock.micros() + 200) > 0
    assert clock.ahead(clock.micros() + 3_600_000_000) == 0


CHANGES = {
    "set": lambda cache: cache.set("k", 1, tags=["red"]),
    "set_many": lambda cache: cache.set_many({"k": 1, "l": 2}, tags=["red"]),
    "add": lambda cache: cache.add("k", 1, tags=["red"]),
    "increment": lambda cache: cache.increment("k", 1, tags=["red"]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("error", [-1, 1], ids=["behind", "ahead"])
def test_what_an_unsure_clock_dated_is_invalidated_by_others_and_invalidates_nothing_later(
    valkey_server, change, error
):
    async def act(unsure, other):
        clock = unsure._clock
        clock.shift += error * 20_000
        clock.doubt = 20_000
        await change(unsure)
        await other.invalidate(tags=["red"])
        assert await other.get("k") is await unsure.get("k") is None
        for wipe in (unsure.clear, partial(unsure.invalidate, tags=["red"]), partial(unsure.delete, "k")):
            await wipe()
            await change(other)
            assert await other.get("k") == await unsure.get("k") == 1
        await other.delete("k")
        await change(unsure)
        await other.delete("k")
        assert await other.get("k") is await unsure.get("k") is None

    # By nothing but the questions themselves do they know of each other.
    fleet(valkey_server, act, 0.0, 0.0, bus="none", coherent=True)
