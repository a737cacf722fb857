"""The suite for buses."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tiercache.clock import NEVER
from tiercache.contracts import Bus, BusConfig, Change, Counts, FarTier, FarTierConfig, Marks, Swaps
from tiercache.testing.tiers import Surroundings, record_of

PATIENCE = 15.0
"""Seconds after which what has not come will not come."""


class Ear:
    """A listener that keeps what it is told."""

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self.changes: list[Change] = []
        self.markers: dict[str, int] = {}
        self.confirmations: list[float] = []
        self.losses: list[float] = []

    def changed(self, changes: Iterable[Change]) -> None:
        self.changes += changes

    def marked(self, markers: Mapping[str, int]) -> None:
        self.markers |= markers

    def now(self) -> float:
        return time.monotonic()

    def confirmed(self, since: float, position: int | None = None) -> None:
        del position
        self.confirmations.append(since)

    def lost(self) -> None:
        self.losses.append(self.now())

    async def until(self, done: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not done():  # noqa: ASYNC110 - what is waited for is no event
                await asyncio.sleep(0.005)

    async def caught_up(self) -> None:
        """Return once everything that was announced before this call must have been told."""
        since = self.now()
        await self.until(lambda: self.confirmations and self.confirmations[-1] >= since)


class Station:
    """A tier, its bus, and who listens: what one process has."""

    def __init__(self, tier: Any, bus: Bus, ear: Ear) -> None:
        self.tier = tier
        self.bus = bus
        self.ear = ear


class BusSuite:
    """What the kernel relies on in a bus. Inherit from it and provide two fixtures.

    `config` is the configuration of the bus, `tier_config` of the tier that it follows. Two stations, each
    with both, work on one store, as two processes do.
    """

    lease = 1.0
    """Seconds; what the bus is told."""

    @pytest.fixture
    def config(self) -> BusConfig:
        raise NotImplementedError("override the fixture `config`: return an instance of your configuration")

    @pytest.fixture
    def tier_config(self) -> FarTierConfig:
        raise NotImplementedError("override the fixture `tier_config`: return that of the tier to follow")

    @pytest.fixture
    def stations(self, config: BusConfig, tier_config: FarTierConfig, tmp_path: Path) -> Any:
        namespace = f"kit{random.getrandbits(48):x}"

        @asynccontextmanager
        async def opened(count: int = 2) -> AsyncIterator[list[Station]]:
            built: list[Station] = []
            tasks: list[asyncio.Future[None]] = []
            try:
                for _ in range(count):
                    context = Surroundings(tmp_path, namespace=namespace)
                    tier: FarTier = tier_config.build(context)
                    built.append(Station(tier, config.build(context, tier), Ear(self.lease)))
                    await tier.open()
                tasks += [asyncio.ensure_future(station.bus.follow(station.ear)) for station in built]
                for station in built:
                    await station.ear.caught_up()
                yield built
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for station in built:
                    await station.bus.close()
                    await station.tier.close()

        def run(act: Any, count: int = 2) -> None:
            async def life() -> None:
                async with opened(count) as stations:
                    address = f"{namespace}:{{}}".format
                    await act(*stations, address)

            asyncio.run(life())

        return run

    def test_what_it_begins_with_is_that_something_may_have_been_missed(self, stations: Any) -> None:
        async def act(one: Station, other: Station, _: Any) -> None:
            for station in (one, other):
                assert station.ear.losses
                assert station.ear.losses[0] <= station.ear.confirmations[-1] + self.lease

        stations(act)

    def test_a_write_is_told_to_others_and_not_to_oneself(self, stations: Any) -> None:
        async def act(one: Station, other: Station, address: Any) -> None:
            await one.tier.write([record_of(address("a"), stamp=10), record_of(address("é"), stamp=11)])
            await other.ear.caught_up()
            await one.ear.caught_up()
            assert sorted(other.ear.changes) == [(address("a"), 10), (address("é"), 11)]
            assert one.ear.changes == []

        stations(act)

    def test_a_write_is_told_with_the_stamp_it_stands_under(self, stations: Any) -> None:
        async def act(one: Station, other: Station, address: Any) -> None:
            await one.tier.write([record_of(address("a"), stamp=50)])
            await one.tier.write([record_of(address("a"), stamp=10)])
            await other.ear.caught_up()
            assert other.ear.changes[-1] == (address("a"), 51)

        stations(act)

    def test_what_is_kept_out_is_not_told_and_what_replaces_something_older_is(self, stations: Any) -> None:
        async def act(one: Station, other: Station, address: Any) -> None:
            await one.tier.write([record_of(address("a"), stamp=50)])
            await one.tier.write([record_of(address("a"), stamp=10, conditional=True)])
            await one.tier.write([record_of(address("a"), stamp=60, conditional=True)])
            await other.ear.caught_up()
            assert other.ear.changes == [(address("a"), 50), (address("a"), 60)]

        stations(act)

    def test_what_is_made_good_is_told_where_what_was_loaded_is_not(self, stations: Any) -> None:
        async def act(one: Station, other: Station, address: Any) -> None:
            loaded = record_of(address("a"), stamp=10, conditional=True)
            await one.tier.write(
                [loaded, record_of(address("b"), stamp=11, conditional=True)._replace(news=True)]
            )
            await one.tier.write([loaded._replace(news=True)])
            await other.ear.caught_up()
            assert other.ear.changes == [(address("b"), 11)]

        stations(act)

    def test_a_delete_is_told_whatever_stood_there(self, stations: Any) -> None:
        async def act(one: Station, other: Station, address: Any) -> None:
            await one.tier.write([record_of(address("a"), stamp=50)])
            await one.tier.delete([address("a"), address("b")])
            await other.ear.caught_up()
            # In a cluster they are of two slots, and only those of one key come in their order.
            told = other.ear.changes
            assert [change for change in told if change.key == address("a")][1:] == [(address("a"), NEVER)]
            assert [change for change in told if change.key == address("b")] == [(address("b"), NEVER)]

        stations(act)

    def test_a_swap_and_a_count_are_told(self, stations: Any) -> None:
        async def act(one: Station, other: Station, address: Any) -> None:
            if isinstance(one.tier, Swaps):
                assert await one.tier.swap(record_of(address("a"), stamp=7), None)
                await other.ear.caught_up()
                assert other.ear.changes == [(address("a"), 7)]
                other.ear.changes.clear()
            if isinstance(one.tier, Counts):
                await one.tier.increment(record_of(address("n"), 1, stamp=20), 1)
                await one.tier.increment(record_of(address("n"), 1, stamp=30), 1)
                await other.ear.caught_up()
                (_, first), (name, second) = other.ear.changes
                assert name == address("n")
                assert 20 <= first < second

        stations(act)

    def test_markers_that_rise_are_told(self, stations: Any) -> None:
        async def act(one: Station, other: Station, _: Any) -> None:
            if not isinstance(one.tier, Marks):
                pytest.skip("the tier keeps no markers")
            await one.tier.mark({"t:red": 5, "p:é": 9}, 0)
            await one.tier.mark({"t:red": 3}, 0)
            await other.ear.caught_up()
            assert other.ear.markers == {"t:red": 5, "p:é": 9}
            assert one.ear.markers == {}
            assert dict(await other.tier.marks()) == {"t:red": 5, "p:é": 9}

        stations(act)

    def test_everybody_hears_everybody(self, stations: Any) -> None:
        async def act(*rest: Any) -> None:
            *stations, address = rest
            for i, station in enumerate(stations):
                for n in range(20):
                    await station.tier.write([record_of(address(f"k{i}"), stamp=n + 1)])
            for i, station in enumerate(stations):
                await station.ear.caught_up()
                heard = {(key, stamp) for key, stamp in station.ear.changes}
                for j in range(len(stations)):
                    if i != j:
                        assert {(address(f"k{j}"), n + 1) for n in range(20)} <= heard

        stations(act, 3)

    def test_silence_is_confirmed_several_times_a_lease(self, stations: Any) -> None:
        async def act(one: Station, *_: Any) -> None:
            count = len(one.ear.confirmations)
            await one.ear.until(lambda: len(one.ear.confirmations) >= count + 4)
            times = one.ear.confirmations[count:]
            assert times == sorted(times)
            assert times[-1] - times[0] < PATIENCE

        stations(act)
