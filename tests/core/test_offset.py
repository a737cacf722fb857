"""Hosts whose clocks are wrong, before a shared tier that has one: all date by that."""

from __future__ import annotations

import asyncio
import time

from hypothesis import example, given
from hypothesis import strategies as st

from servers import Server
from tiercache import Cache, Clock
from tiercache.engine.guard import Guard
from tiercache.engine.offset import AGAIN, SAMPLES, Offset

HOUR = 3600.0


def fleet(server: Server, act, *skews: float) -> None:
    server.ask("FLUSHALL")

    async def life() -> None:
        caches = []
        try:
            for skew in skews:
                cache = Cache.open(
                    {
                        "cache": {"namespace": "skewed"},
                        "tier": {
                            "memory": {"type": "memory"},
                            "far": {"type": "redis", "url": server.url, "timeout": "30s", "deadline": "60s"},
                        },
                        "route": {"all": {"tiers": ["memory", "far"], "ttl": "10m"}},
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
    """A tier with a clock, that takes its time to answer."""

    def __init__(self, now, ahead: float) -> None:
        self.now = now
        self.ahead = ahead
        self.there = self.back = 0.0

    async def open(self) -> None:
        pass

    async def time(self) -> int:
        self.now[0] += self.there
        told = int((self.now[0] + self.ahead) * 1e6)
        self.now[0] += self.back
        return told


def measured(steps, ahead: float = 50.0) -> tuple[int, int]:
    now = [1000.0]
    clock = Clock()
    clock.wall = clock.monotonic = lambda: now[0]

    async def main() -> None:
        watch = Watch(now, ahead)
        offset = Offset(Guard("far", watch, clock), clock)  # type: ignore[arg-type]
        for there, back in steps:
            watch.there, watch.back = there, back
            await offset.measure()
            now[0] += AGAIN

    asyncio.run(main())
    return clock.shift, clock.doubt


def test_the_quickest_answer_decides():
    shift, doubt = measured([(0.5, 0.0), (0.001, 0.001), (0.0, 0.4)])
    assert abs(shift - 50_000_000) <= 2
    assert abs(doubt - 1_000) <= 2


WAY = st.integers(0, 500).map(lambda milliseconds: milliseconds / 1000)


@given(st.lists(st.tuples(WAY, WAY), min_size=1, max_size=2 * SAMPLES))
@example([(0.5, 0.0)])
@example([(0.0, 0.5)])
@example([(0.3, 0.1)] * (SAMPLES + 3))
def test_the_error_is_within_the_doubt(steps):
    shift, doubt = measured(steps)
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


@given(st.lists(st.tuples(WAY, WAY), min_size=1, max_size=SAMPLES), st.tuples(WAY, WAY))
def test_what_began_when_another_was_done_is_dated_after_it(steps, far):
    doing, following = Clock(), Clock()
    (doing.shift, doing.doubt), (following.shift, following.doubt) = measured(steps), measured([far])
    # A change takes a way to the server and back, and none was quicker than the quickest question.
    done = 1000.0 + 2 * doing.doubt / 1_000_000 + 5e-6
    doing.wall, following.wall = lambda: 1000.0, lambda: done
    assert following.final() > doing.final()
