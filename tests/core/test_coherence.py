"""Near copies while others change the same tier: believed while it is proven that nothing was missed."""

from __future__ import annotations

import asyncio
import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gated import Able, opened, tier
from tiercache import (
    Bus,
    BusConfig,
    Change,
    Clock,
    Context,
    FarTier,
    Listener,
    TierError,
    TierRefused,
    hookimpl,
)
from tiercache.engine.coherence import Coherence
from tiercache.engine.far import Far
from tiercache.testing import FakeClock

LEASE = 1000.0
"""Seconds, of the real clock: what ends it in these tests is never that it is over."""


class Wire(Bus):
    """A bus that says what a test tells it to."""

    def __init__(self, tier: Any) -> None:
        self.tier = tier
        self.listener: Listener | None = None
        self.follows = 0
        self.error: Exception | None = None
        self.ends = asyncio.Event()

    async def follow(self, listener: Listener) -> None:
        self.follows += 1
        if self.error is not None:
            raise self.error
        self.ends.clear()
        self.listener = listener
        listener.lost()
        listener.confirmed(listener.now(), 1)
        await self.ends.wait()
        raise TierError("cut")

    async def close(self) -> None:
        pass


class WireConfig(BusConfig):
    """A bus for tests."""

    carries: ClassVar[str] = "able"
    type: Literal["wire"] = "wire"

    def build(self, context: Context, tier: FarTier) -> Wire:
        tier.wire = Wire(tier)  # type: ignore[attr-defined]
        if refused:
            tier.wire.error = refused[0]  # type: ignore[attr-defined]
        return tier.wire  # type: ignore[attr-defined,no-any-return]


refused: list[Exception] = []


@hookimpl
def tiercache_buses():
    return [WireConfig]


def document(stale: float = 0.0, lease: float = LEASE, **more: Any) -> dict[str, Any]:
    return {
        "cache": {"namespace": "n", "lease": lease},
        "tier": {"memory": {"type": "memory"}, "far": {"type": "able"}, **more.pop("tiers", {})},
        "route": {
            "all": {"tiers": more.pop("path", ["memory", "far"]), "ttl": "1h", "stale": stale or None, **more}
        },
    }


def living(act: Callable[..., Any], wanted: dict[str, Any] | None = None) -> None:
    async def life() -> None:
        wanted_ = document() if wanted is None else wanted
        wanted_["route"]["all"] = {k: v for k, v in wanted_["route"]["all"].items() if v is not None}
        async with opened(wanted_, clock=FakeClock(), plugins=["core.test_coherence"]) as cache:
            far = tier(cache, "far")
            await act(cache, far, far.wire.listener)

    asyncio.run(life())


async def settled(*_: Any) -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def reads(far: Able) -> int:
    return sum(what == "read" for what, _ in far.calls)


def test_a_change_by_another_process_drops_the_near_copy():
    async def act(cache, far, listener):
        await cache.set("k", 1)
        assert cache.peek("k") == 1
        listener.changed([Change("n:k", cache._clock.stamp())])
        assert cache.peek("k") is None
        assert await cache.get("k") == 1
        assert reads(far) == 1

    living(act)


def test_a_change_that_is_older_than_the_near_copy_leaves_it():
    async def act(cache, far, listener):
        before = cache._clock.stamp()
        await cache.set("k", 1)
        listener.changed([Change("n:k", before)])
        assert cache.peek("k") == 1

    living(act)


def test_changes_of_another_namespace_concern_nobody():
    async def act(cache, far, listener):
        await cache.set("k", 1)
        listener.changed([Change("m:k", cache._clock.stamp()), Change("k", cache._clock.stamp())])
        assert cache.peek("k") == 1

    living(act)


def test_stamps_that_are_heard_raise_the_clock():
    async def act(cache, far, listener):
        ahead = cache._clock.micros() + 5_000_000
        listener.changed([Change("n:k", ahead)])
        assert cache._clock.stamp() > ahead

    living(act)


def test_a_change_during_a_far_read_keeps_what_was_read_out_of_memory():
    async def act(cache, far, listener):
        await cache.set("k", 1)
        cache._house.forget("k")
        far.gate.clear()
        reading = asyncio.create_task(cache.get("k"))
        await settled(cache)
        listener.changed([Change("n:k", cache._clock.stamp())])
        far.gate.set()
        assert await reading == 1
        assert cache.peek("k") is None

    living(act)


def test_a_change_during_a_load_keeps_what_was_loaded_out_of_every_tier():
    async def act(cache, far, listener):
        began, go_on = asyncio.Event(), asyncio.Event()

        async def loader() -> int:
            began.set()
            await go_on.wait()
            return 1

        loading = asyncio.create_task(cache.get_or_set("k", loader))
        await began.wait()
        listener.changed([Change("n:k", cache._clock.stamp())])
        go_on.set()
        assert await loading == 1
        assert await cache.get("k") is None

    living(act)


def test_a_marker_that_is_heard_drops_what_it_covers():
    async def act(cache, far, listener):
        await cache.set("k", 1, tags=["red"])
        await cache.set("other", 2)
        listener.marked({"t:red": cache._clock.stamp()})
        assert cache.peek("k") is None
        assert await cache.get("k") is None
        assert cache.peek("other") == 2

    living(act)


def test_what_was_kept_before_something_was_lost_is_no_hit():
    async def act(cache, far, listener):
        await cache.set("k", 1)
        listener.lost()
        assert cache.peek("k") is None
        # The far tier has not been away.
        assert await cache.get("k") == 1

    living(act)


def test_what_was_kept_before_something_was_lost_is_a_stale_copy_where_that_is_allowed():
    async def act(cache, far, listener):
        def fail() -> Any:
            raise OSError("the source is gone")

        await cache.set("k", 1, stale=600)
        await cache.set("none", 1, stale=0.001)
        cache._clock.wall.advance(1)
        listener.lost()
        await settled(cache)
        far.error = TierError("away")
        assert await cache.get_or_set("k", fail) == 1

    living(act, document(stale=600.0))


def test_where_nothing_stale_is_allowed_distrust_drops():
    async def act(cache, far, listener):
        def fail() -> Any:
            raise OSError("the source is gone")

        await cache.set("k", 1)
        listener.lost()
        far.error = TierError("away")
        with pytest.raises(OSError, match="source"):
            await cache.get_or_set("k", fail)

    living(act)


def test_what_is_kept_while_nobody_is_heard_ends_after_one_lease():
    async def act(cache, far, listener):
        listener.lost()
        await cache.set("k", 1)
        assert cache.peek("k") == 1
        entry = cache._house.nears["memory"].get("k")
        assert 0 < entry.fresh_until - cache._clock.monotonic() <= LEASE

    living(act)


def test_a_load_that_began_before_the_loss_counts_its_lease_from_then():
    async def act(cache, far, listener):
        coherence = cache._house.hearing.coherences[0]
        coherence.seconds = FakeClock(10.0)
        coherence.since = 0.0
        coherence.trust.until = -1.0
        trust, most = coherence.grant(10.0 - LEASE + 3)
        assert trust.until == float("inf")
        assert most == pytest.approx(3)
        assert coherence.grant(10.0 - 2 * LEASE)[1] == 0

    living(act)


def test_a_flight_that_began_before_the_present_trust_is_not_trusted_for_longer_than_a_lease():
    async def act(cache, far, listener):
        coherence = cache._house.hearing.coherences[0]
        began = listener.now()
        await asyncio.sleep(0.001)
        listener.lost()
        listener.confirmed(listener.now())
        await settled(cache)
        await asyncio.sleep(0.01)
        assert coherence.trust.holds()
        assert coherence.grant(began)[1] < LEASE
        assert coherence.grant(listener.now())[1] == float("inf")

    living(act)


def test_a_confirmation_from_before_the_loss_gives_nothing_back():
    async def act(cache, far, listener):
        before = listener.now()
        await asyncio.sleep(0.001)
        await cache.set("k", 1)
        listener.lost()
        listener.confirmed(before)
        await settled(cache)
        assert cache.peek("k") is None
        assert not cache._house.hearing.coherences[0].trust.holds()

    living(act)


def test_silence_alone_gives_everything_back_once_it_ends():
    async def act(cache, far, listener):
        coherence = cache._house.hearing.coherences[0]
        clock = FakeClock(listener.now())
        coherence.seconds = clock
        await cache.set("k", 1)
        clock.advance(LEASE + 1)
        assert cache.peek("k") is None
        assert not await cache.exists("k") or reads(far)
        listener.confirmed(clock())
        assert cache.peek("k") == 1

    living(act)


def test_near_hits_are_counted_beyond_the_trust_they_were_made_in():
    async def act(cache, far, listener):
        await cache.set("k", 1, stale=600)
        for _ in range(5):
            assert cache.peek("k") == 1
        listener.lost()
        async with asyncio.timeout(10):
            while cache._house.hearing._sweeping:
                await asyncio.sleep(0.001)
        assert cache.stats().tiers["memory"].hits == 5

    living(act, document(stale=600.0))


def test_a_bus_that_fails_is_followed_again():
    async def act(cache, far, listener):
        await cache.set("k", 1)
        far.wire.ends.set()
        async with asyncio.timeout(10):
            while far.wire.follows < 2:
                await asyncio.sleep(0.01)
        assert cache.peek("k") is None
        assert await cache.get("k") == 1
        assert cache._house.hearing.coherences[0].errors == 1

    living(act)


def test_of_a_bus_that_fails_again_and_again_the_beginning_and_the_end_are_told(caplog, monkeypatch):
    monkeypatch.setattr("tiercache.engine.coherence.AGAIN", 0.01)
    caplog.set_level("INFO", "tiercache")

    def told(text: str) -> int:
        return sum(text in record.message for record in caplog.records)

    async def act(one, far, listener):
        async with asyncio.timeout(30):
            follows = far.wire.follows
            far.wire.error = TierError("cut, still")
            far.wire.ends.set()
            while far.wire.follows < follows + 3:
                await asyncio.sleep(0.01)
            assert told("its bus failed") == 1
            far.wire.error = None
            while not told("the lease lives, near copies") > 1:
                await asyncio.sleep(0.01)
            coherence = one._house.hearing.coherences[0]
            coherence._failed(TierError("once more"))
            coherence._failed(TierError("once more"))
            assert told("its bus failed") == 2
            coherence.confirmed(coherence.now(), 2)
            assert told("its bus is followed again") == 1

    living(act)


def test_a_bus_that_never_will_work_is_told_at_the_start():
    # Imported as a plugin, this module is another one than as a test.
    plugin = importlib.import_module("core.test_coherence")
    plugin.refused.append(TierRefused("no right to the channel"))
    try:
        with pytest.raises(TierRefused, match="channel"):
            living(settled)
    finally:
        plugin.refused.clear()


def test_a_refresh_ahead_is_no_way_round_the_lease():
    async def act(cache, far, listener):
        listener.lost()
        await cache.set("k", 1)
        entry = cache._house.nears["memory"].get("k")
        fresh = entry.fresh_until + entry.terms.ahead - cache._clock.monotonic()
        assert fresh <= LEASE

    living(act, document(refresh_ahead=0.5))


BEHIND = {"tiers": {"disk": {"type": "sqlite", "path": "x.db"}}, "path": ["memory", "far", "disk"]}


def behind(act: Callable[..., Any], stale: float = 0.0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "x.db"))
        wanted = document(stale, tiers={"disk": {"type": "sqlite", "path": path}}, path=BEHIND["path"])
        living(act, wanted)


def test_what_another_host_changed_is_not_served_from_this_hosts_disk():
    async def act(cache, far, listener):
        await cache.set("k", 1)
        far.rows.clear()
        listener.changed([Change("n:k", cache._clock.stamp())])
        assert await cache.get("k") is None
        await cache._house.fars["disk"].idle()
        await settled()
        assert cache._house.hearing.coherences[0].outdated == {}
        assert await cache.get("k") is None

    behind(act)


def test_what_another_process_of_this_host_wrote_to_the_disk_stays():
    async def act(cache, far, listener):
        await cache.set("k", 1)
        stamp = cache._house.nears["memory"].get("k").created_at
        far.rows.clear()
        listener.changed([Change("n:k", stamp)])
        await cache._house.fars["disk"].idle()
        assert await cache.get("k") == 1

    behind(act)


def test_a_disk_behind_a_shared_tier_is_no_hit_once_something_was_lost():
    async def act(cache, far, listener):
        await cache.set("k", 1)
        far.rows.clear()
        assert await cache.get("k") == 1
        cache._clock.wall.advance(1)
        listener.lost()
        listener.confirmed(listener.now(), 7)
        await settled(cache)
        await asyncio.sleep(0.05)
        assert await cache.get("k") is None
        assert not far.living()

    behind(act)


def test_such_a_disk_serves_stale_copies_where_they_are_allowed():
    async def act(cache, far, listener):
        def fail() -> Any:
            raise OSError("the source is gone")

        await cache.set("k", 1, stale=600)
        far.rows.clear()
        cache._clock.wall.advance(1)
        listener.lost()
        await settled(cache)
        cache._house.nears["memory"].remove("k")
        assert await cache.get("k") is None
        assert await cache.get_or_set("k", fail) == 1
        assert not far.living()

    behind(act, 600.0)


@pytest.mark.parametrize(("position", "found"), [(1, 1), (2, None)])
def test_a_disk_is_believed_after_a_restart_if_the_bus_stands_where_it_stood(position, found, tmp_path):
    clock = FakeClock()
    wanted = document(tiers={"disk": {"type": "sqlite", "path": str(tmp_path / "x.db")}}, path=BEHIND["path"])
    wanted["route"]["all"].pop("stale")

    async def life(act: Callable[..., Any], position: int) -> None:
        cache = opened(wanted, clock=clock, plugins=["core.test_coherence"])
        confirm = cache._house.hearing.coherences[0].confirmed
        wire = tier(cache, "far").wire

        class At(Wire):
            async def follow(self, listener):
                listener.lost()
                listener.confirmed(listener.now(), position)
                await self.ends.wait()

        wire.__class__ = At
        assert confirm is not None
        async with cache:
            await act(cache)

    async def first(cache):
        await cache.set("k", 1)

    async def second(cache):
        async with asyncio.timeout(10):
            while any(known.unknown for known in cache._house.hearing.coherences[0].behind.values()):
                await asyncio.sleep(0.001)
        assert await cache.get("k") == found

    asyncio.run(life(first, 1))
    clock.advance(10)
    asyncio.run(life(second, position))


def test_a_write_that_outbid_a_later_stamp_still_drops_what_it_replaced_from_the_disk():
    async def act(cache, far, listener):
        await cache.set("k", 1)
        stamp = cache._house.nears["memory"].get("k").created_at
        far.rows.clear()
        listener.changed([Change("n:k", stamp + 1)])
        await cache._house.fars["disk"].idle()
        assert await cache.get("k") is None

    behind(act)


@given(st.lists(st.sampled_from(("lost", "confirm", "old", "time")), max_size=30))
def test_trust_holds_only_within_a_lease_of_a_confirmation_that_came_after_the_last_loss(steps):
    seconds = FakeClock(100.0)
    clock = Clock(FakeClock())
    far = Far("far", Able(clock), None, clock, scope="shared", max_ttl=1)
    coherence = Coherence(far, Wire(None), clock, lease=10.0)
    coherence.seconds = seconds
    lost_at, confirmed = seconds(), -1e9
    coherence.lost()
    for step in steps:
        seconds.advance(0.5)
        if step == "lost":
            lost_at, confirmed = seconds(), -1e9
            coherence.lost()
        elif step == "confirm":
            confirmed = seconds()
            coherence.confirmed(confirmed)
        elif step == "old":
            coherence.confirmed(lost_at - 1)
        else:
            seconds.advance(7)
        assert coherence.trust.holds() == (seconds() < confirmed + 10.0)


def test_what_a_far_tier_holds_is_no_hit_while_markers_may_have_been_missed(monkeypatch):
    async def act(cache, far, listener):
        await cache.set("k", "plain")
        for _ in range(2):
            cache._empty()
            assert await cache.get("k") == "plain"
        cache._empty()
        listener.lost()
        monkeypatch.setattr(Coherence, "informed", lambda _: False)
        assert await cache.get("k") is None

    living(act)
