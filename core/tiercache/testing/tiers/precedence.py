"""What goes before what: expiry and stamps."""

from __future__ import annotations

import asyncio

import pytest

from tiercache.clock import NEVER
from tiercache.contracts import FarTier
from tiercache.frame import restamped
from tiercache.testing.tiers.frames import record_of
from tiercache.testing.tiers.ground import Address, Ground
from tiercache.testing.tiers.surroundings import Surroundings


class Precedence(Ground):
    """Tests of expiry, conditional and unconditional writes."""

    def test_an_entry_goes_when_its_time_has_come(
        self, tier: FarTier, context: Surroundings, address: Address, runner: asyncio.Runner
    ) -> None:
        now = context.clock.micros()
        soon, later, never = (
            record_of(address("soon"), expires_at=now + 150_000),
            record_of(address("later"), expires_at=now + 3_600_000_000),
            record_of(address("never"), expires_at=NEVER),
        )
        keys = [soon.key, later.key, never.key]
        runner.run(tier.write([soon, later, never]))
        if self.fake_clock:
            assert list(runner.run(tier.read(keys))) == [soon.frame, later.frame, never.frame]
        self.wait(context, 0.3)
        assert list(runner.run(tier.read(keys))) == [None, later.frame, never.frame]
        assert list(runner.run(tier.delete(keys))) == [False, True, True]

    def test_an_entry_written_too_late_leaves_nothing(
        self, tier: FarTier, context: Surroundings, address: Address, runner: asyncio.Runner
    ) -> None:
        past = context.clock.micros() - 5_000_000
        key = address("a")
        runner.run(tier.write([record_of(key, expires_at=past)]))
        assert list(runner.run(tier.read([key]))) == [None]
        runner.run(tier.write([record_of(key, b"old", stamp=5)]))
        runner.run(tier.write([record_of(key, b"new", stamp=6, expires_at=past)]))
        assert list(runner.run(tier.read([key]))) == [None], "the older value came back"
        assert list(runner.run(tier.delete([key]))) == [False]

    def test_a_new_expiry_replaces_the_old(
        self, tier: FarTier, context: Surroundings, address: Address, runner: asyncio.Runner
    ) -> None:
        soon = context.clock.micros() + 150_000
        longer, shorter = address("longer"), address("shorter")
        runner.run(tier.write([record_of(longer, expires_at=soon), record_of(shorter)]))
        kept = record_of(longer, stamp=2)
        runner.run(tier.write([kept, record_of(shorter, stamp=2, expires_at=soon)]))
        self.wait(context, 0.3)
        assert list(runner.run(tier.read([longer, shorter]))) == [kept.frame, None]

    @pytest.mark.parametrize("standing", [6, 5])
    def test_a_conditional_write_is_kept_out_by_what_is_not_older(
        self, tier: FarTier, address: Address, runner: asyncio.Runner, standing: int
    ) -> None:
        key = address("a")
        stands = record_of(key, b"stands", stamp=standing)
        runner.run(tier.write([stands]))
        late = record_of(key, b"late", stamp=5, conditional=True)
        assert list(runner.run(tier.write([late]))) == [0]
        assert list(runner.run(tier.read([key]))) == [stands.frame]

    def test_a_conditional_write_replaces_what_is_older(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        stands, new = (
            record_of(address("a"), b"stands", stamp=4),
            record_of(address("a"), b"new", stamp=5, conditional=True),
        )
        alone = record_of(address("b"), stamp=1, conditional=True)
        runner.run(tier.write([stands]))
        assert list(runner.run(tier.write([new, alone]))) == [5, 1]
        assert list(runner.run(tier.read([new.key, alone.key]))) == [new.frame, alone.frame]

    def test_what_has_expired_or_was_deleted_keeps_nothing_out(
        self, tier: FarTier, context: Surroundings, address: Address, runner: asyncio.Runner
    ) -> None:
        soon = context.clock.micros() + 150_000
        runner.run(
            tier.write([record_of(address("a"), stamp=9, expires_at=soon), record_of(address("b"), stamp=9)])
        )
        self.wait(context, 0.3)
        runner.run(tier.delete([address("b")]))
        late = [record_of(address(key), b"late", stamp=5, conditional=True) for key in "ab"]
        assert list(runner.run(tier.write(late))) == [5, 5]
        assert list(runner.run(tier.read([address("a"), address("b")]))) == [r.frame for r in late]

    @pytest.mark.parametrize("standing", [5, 6, 1_800_000_000_000_000, 2**32 - 1, 2**56 - 1, 2**62])
    def test_an_unconditional_write_wins_and_stands_above(
        self, tier: FarTier, address: Address, runner: asyncio.Runner, standing: int
    ) -> None:
        key = address("a")
        runner.run(tier.write([record_of(key, b"stands", stamp=standing)]))
        record = record_of(key, b"wins", stamp=5)
        assert list(runner.run(tier.write([record]))) == [standing + 1]
        (frame,) = runner.run(tier.read([key]))
        assert frame == restamped(record.frame, standing + 1)
