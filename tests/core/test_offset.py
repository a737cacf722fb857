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
from tiercache import Cache, Clock, TierError
from tiercache.engine.guard import Guard
from tiercache.engine.offset import AGAIN, BELIEVED, BURST, LEAST, QUESTIONS, SOON, Offset

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
        self.away = False

    async def open(self) -> None:
        pass

    async def time(self) -> int:
        if self.away:
            raise TierError("away")
        there, back = next(self.ways)
        self.asked += 1
        self.now[0] += there
        told = int((self.now[0] + self.ahead) * 1e6)
        self.now[0] += back
        return told


def faked() -> tuple[Clock, list[float]]:
    clock, now = Clock(), [1000.0]
    clock.wall = clock.monotonic = lambda: now[0]
    return clock, now


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
    clock, now = faked()
    for way, asked in ((BURST, LEAST), (BURST / 10, 6), (0.001, QUESTIONS)):
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


def test_the_clock_is_asked_for_soon_at_first_and_then_seldom():
    clock, now = faked()
    offset = Offset(Guard("far", Watch(now, 5.0), clock), clock)  # type: ignore[arg-type]
    pauses = []

    async def main() -> None:
        for _ in range(6):
            pauses.append(offset.due())
            now[0] += offset.due()
            await offset.measure()

    asyncio.run(main())
    assert pauses == pytest.approx([0, 2, 4, 8, AGAIN, AGAIN])


def test_the_clock_is_asked_for_soon_after_a_failure():
    clock, now = faked()
    watch = Watch(now, 5.0)
    offset = Offset(Guard("far", watch, clock), clock)  # type: ignore[arg-type]

    async def main() -> None:
        for away, soon in (
            (False, 2 * SOON),
            (False, 4 * SOON),
            (True, SOON),
            (True, SOON),
            (False, 2 * SOON),
        ):
            watch.away = away
            now[0] += offset.due()
            await offset.measure()
            assert offset.due() == pytest.approx(soon)

    asyncio.run(main())


def test_what_holds_up_one_question_leaves_no_doubt():
    shift, doubt = measured([(0.3, 0.0), (0.001, 0.001)])
    assert abs(shift - 50_000_000) <= doubt + 2
    assert abs(doubt - 1_000) <= 10


def test_an_answer_that_took_too_long_is_not_believed():
    assert measured([(BELIEVED, 0.1)]) == (0, 0)


def test_clocks_drift_apart_also_while_nobody_answers():
    clock, now = faked()
    watch = Watch(now, 5.0, [(0.001, 0.001)])
    guard = Guard("far", watch, clock)  # type: ignore[arg-type]
    offset = Offset(guard, clock)

    async def main() -> None:
        await offset.measure()
        before = clock.doubt
        watch.away = True
        now[0] += HOUR
        await offset.measure()
        assert clock.doubt == pytest.approx(before + HOUR * 15, abs=2)

    asyncio.run(main())


def test_who_answers_after_a_failure_may_have_another_clock():
    clock, now = faked()
    watch = Watch(now, 50.0, [(0.0001, 0.0001)])
    guard = Guard("far", watch, clock)  # type: ignore[arg-type]
    offset = Offset(guard, clock)

    async def main() -> None:
        await offset.measure()
        guard.counts.errors += 1
        # Within the doubt of so slow an answer the old clock might still be the one.
        watch.ahead, watch.ways = 50.004, itertools.cycle([(0.005, 0.005)])
        now[0] += AGAIN
        await offset.measure()

    asyncio.run(main())
    assert abs(clock.shift - 50_004_000) <= 2


def test_an_interruption_between_two_looks_at_clocks_is_in_the_doubt():
    clock, now = faked()

    def late() -> float:
        now[0] += 0.005
        return now[0]

    clock.wall = late
    asyncio.run(Offset(Guard("far", Watch(now, 50.0), clock), clock).measure())  # type: ignore[arg-type]
    assert abs(clock.shift - 50_000_000) <= clock.doubt + 2


@pytest.mark.parametrize("told", [1.5, "1", -5, True, 0])
def test_a_tier_that_tells_no_time_is_not_believed(told):
    clock, now = faked()

    class Wrong(Watch):
        async def time(self) -> int:
            return told

    guard = Guard("far", Wrong(now, 5.0), clock)  # type: ignore[arg-type]
    asyncio.run(Offset(guard, clock).measure())
    assert (clock.shift, clock.doubt) == (0, 0)
    assert f"answered with {told!r}" in guard.last_error


@given(st.integers(0, 300_000), st.integers(-300_000, 300_000), st.integers(0, 300_000))
def test_what_a_load_began_before_an_invalidation_is_dated_before_it(doubt, error, others):
    loading, ending = Clock(), Clock()
    now = 1000.0
    loading.wall = ending.wall = lambda: now
    loading.doubt, loading.shift = doubt, max(-doubt, min(error, doubt))
    ending.doubt, ending.shift = others, -others
    began = loading.early()
    now += 1e-6
    assert began <= ending.final()


def test_a_load_that_began_before_an_invalidation_elsewhere_does_not_survive_it(valkey_server):
    async def act(loading, other):
        clock = loading._clock
        clock.shift += 15_000
        clock.doubt = 20_000
        began, told = asyncio.Event(), asyncio.Event()

        async def loader():
            began.set()
            await told.wait()
            return "old"

        load = asyncio.create_task(loading.get_or_set("k", loader, tags=["red"]))
        await began.wait()
        await other.invalidate(tags=["red"])
        told.set()
        await load
        assert await other.get("k") is await loading.get("k") is None

    fleet(valkey_server, act, 0.0, 0.0, bus="none", coherent=True)


def test_who_has_seen_a_stamp_of_an_unsure_clock_waits_until_others_are_past_it(valkey_server):
    async def act(unsure, sure, other):
        unsure._clock.doubt = 150_000
        setting = asyncio.create_task(unsure.set("seen", 1))
        async with asyncio.timeout(10):
            while await sure.get("seen") is None:
                await asyncio.sleep(0.001)
        await sure.set("k", 1, tags=["red"])
        await other.invalidate(tags=["red"])
        assert await other.get("k") is await sure.get("k") is None
        await setting

    fleet(valkey_server, act, 0.0, 0.0, 0.0, bus="none", coherent=True)


def test_a_set_that_the_tier_could_not_take_waits_as_one_that_it_took(valkey_server):
    with Server("valkey") as server:

        async def act(cache):
            cache._clock.doubt = 20_000
            server.stop()
            await cache.set("k", 1)
            entry = cache._house.default.near.get("k")
            assert cache._clock.ahead(entry.created_at) == 0

        fleet(server, act, 0.0)


def test_of_two_shared_tiers_one_gives_the_time(valkey_server):
    tiers = {name: {"type": "redis", "url": valkey_server.url} for name in ("one", "two")}
    routes = {name: {"tiers": [name], "keys": [f"{name}:*"]} for name in tiers}
    routes["one"] = {"tiers": ["one"], "default": True}
    cache = Cache.open({"tier": tiers, "route": routes, "cache": {"namespace": "two"}})
    assert [coherence._dates for coherence in cache._house.hearing.coherences] == [True, False]
