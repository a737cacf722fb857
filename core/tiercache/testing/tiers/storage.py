"""Keeping frames: batches, keys, and what outlives a close."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from tiercache.contracts import FarTier, FarTierConfig
from tiercache.testing.tiers.frames import record_of
from tiercache.testing.tiers.ground import HOSTILE, Address, Ground, finish
from tiercache.testing.tiers.surroundings import Surroundings


class Storage(Ground):
    """Tests of reading, writing and deleting."""

    def test_closing_what_was_never_opened_is_quiet(
        self, config: FarTierConfig, context: Surroundings, runner: asyncio.Runner
    ) -> None:
        runner.run(config.build(context).close())

    def test_closing_twice_is_quiet(
        self, config: FarTierConfig, context: Surroundings, runner: asyncio.Runner
    ) -> None:
        async def life() -> None:
            tier = config.build(context)
            await tier.open()
            await tier.close()
            await tier.close()

        runner.run(life())

    def test_entries_survive_a_close(
        self, config: FarTierConfig, context: Surroundings, address: Address, runner: asyncio.Runner
    ) -> None:
        if not self.persists:
            pytest.skip("the tier keeps nothing beyond its close")
        records = [record_of(address(key), key.encode() * 50) for key in HOSTILE]

        async def write() -> None:
            tier = config.build(context)
            await tier.open()
            await tier.write(records)
            await tier.delete([records[0].key])
            await tier.close()

        async def read() -> Sequence[bytes | None]:
            tier = config.build(context)
            await tier.open()
            try:
                return await tier.read([record.key for record in records])
            finally:
                await tier.close()

        runner.run(write())
        assert list(runner.run(read())) == [None, *(record.frame for record in records[1:])]

    def test_two_open_tiers_see_the_same_entries(
        self,
        tier: FarTier,
        config: FarTierConfig,
        context: Surroundings,
        address: Address,
        runner: asyncio.Runner,
    ) -> None:
        if not self.persists:
            pytest.skip("the tier shares nothing")

        async def life() -> None:
            other = config.build(context)
            await other.open()
            try:
                record = record_of(address("a"))
                await tier.write([record])
                assert list(await other.read([record.key])) == [record.frame]
                assert list(await other.delete([record.key])) == [True]
                assert list(await tier.read([record.key])) == [None]
            finally:
                await other.close()

        runner.run(life())

    def test_empty_batches_give_empty_answers(self, tier: FarTier, runner: asyncio.Runner) -> None:
        assert list(runner.run(tier.read([]))) == []
        assert list(runner.run(tier.write([]))) == []
        assert list(runner.run(tier.delete([]))) == []

    def test_answers_come_in_the_order_of_the_batch(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        records = [record_of(address(f"key:{n}"), b"%d" % n, stamp=n + 1) for n in range(700)]
        random.Random(7).shuffle(records)
        assert list(runner.run(tier.write(records))) == [record.stamp for record in records]
        asked = [address("nobody"), *(record.key for record in reversed(records)), address("nobody")]
        frames = runner.run(tier.read(asked))
        assert list(frames) == [None, *(record.frame for record in reversed(records)), None]
        assert list(runner.run(tier.delete(asked))) == [False, *([True] * 700), False]
        assert set(runner.run(tier.read(asked))) == {None}

    def test_a_key_may_come_twice_in_a_batch(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        key = address("a")
        first, second = record_of(key, b"first", stamp=5), record_of(key, b"second", stamp=6)
        assert list(runner.run(tier.write([first, second]))) == [5, 6]
        assert list(runner.run(tier.read([key, address("b"), key]))) == [second.frame, None, second.frame]
        assert list(runner.run(tier.delete([key, key]))) == [True, False]

    @pytest.mark.parametrize("size", [0, 1, 127, 4096, 70_000, None])
    def test_frames_come_back_byte_for_byte(
        self, tier: FarTier, address: Address, runner: asyncio.Runner, size: int | None
    ) -> None:
        payload = random.Random(size).randbytes(self.largest if size is None else size)
        record = record_of(address("a"), payload)
        assert list(runner.run(tier.write([record]))) == [1]
        (frame,) = runner.run(tier.read([record.key]))
        assert type(frame) is bytes
        assert frame == record.frame

    def test_hostile_keys_name_one_entry_each(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        records = [record_of(address(key), key.encode()) for key in HOSTILE]
        runner.run(tier.write(records))
        assert list(runner.run(tier.read([record.key for record in records]))) == [
            record.frame for record in records
        ]
        for n, record in enumerate(records):
            assert list(runner.run(tier.delete([record.key]))) == [True]
            left = list(runner.run(tier.read([record.key for record in records])))
            assert left == [None] * (n + 1) + [record.frame for record in records[n + 1 :]]

    def test_reads_and_writes_may_be_in_flight_together(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        records = [record_of(address(f"key:{n}"), b"%d" % n) for n in range(64)]

        async def together() -> None:
            async with asyncio.TaskGroup() as group:
                for n in range(0, 64, 8):
                    group.create_task(finish(tier.write(records[n : n + 8])))
                    group.create_task(finish(tier.read([record.key for record in records])))

        runner.run(together())
        assert list(runner.run(tier.read([record.key for record in records]))) == [
            record.frame for record in records
        ]
