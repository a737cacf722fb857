"""What every far tier must do, as tests to inherit."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from tiercache.clock import NEVER, Clock
from tiercache.contracts import Counts, FarTier, FarTierConfig, Measured, PolicyConfig, Scans, Swaps, Wipes
from tiercache.frame import COUNTER, restamped, stamp_of, unpack
from tiercache.testing.clock import FakeClock
from tiercache.testing.tiers.frames import record_of
from tiercache.testing.tiers.model import check_against_model
from tiercache.testing.tiers.surroundings import Surroundings

HOSTILE = (
    "a", "A", "b", "%", "_", "?", "*", "user:1", "user:*", "user:", "naïve", "nai\u0308ve", "x" * 1000, "a b",
    "{tag}x", "{}", "[a-z]", "\\", "\\*", "'", '"; --', "🦊", "\uffff", "ключ", "0", "-1", "None",
)  # fmt: skip


class FarTierSuite:
    """Inherit from it, provide the fixture `config`, and set the class attributes that differ.

    Fixtures that may be overridden: `config` (must be: an instance of the tier's configuration class, whose
    options suit a test), `policies` (policy configurations by reference, where the tier takes one),
    `namespace` (must not meet that of another run on the same store), `context`. Tests are synchronous and
    drive the tier by `runner`.

    All tests use keys under `address(…)`, so that a store may be shared.
    """

    persists: ClassVar[bool] = True
    """Whether entries outlive `close`, and another tier built of the same configuration finds them."""
    fake_clock: ClassVar[bool] = True
    """Whether expiry follows the context's clock. Otherwise tests of it sleep for some 0.3 s."""
    abilities: ClassVar[tuple[type[Any], ...]] = (Scans, Wipes, Swaps, Counts)
    """Which further Protocols the tier implements."""
    largest: ClassVar[int] = 3 * 2**20
    """Bytes of the largest payload to try."""
    examples: ClassVar[int] = 20
    """Runs of the state machine, of 25 steps each."""

    # Fixtures

    @pytest.fixture
    def config(self) -> FarTierConfig:
        raise NotImplementedError("override the fixture `config`: return an instance of your configuration")

    @pytest.fixture
    def policies(self) -> Mapping[str, PolicyConfig]:
        return {}

    @pytest.fixture
    def namespace(self) -> str:
        return f"kit{random.getrandbits(48):x}"

    @pytest.fixture
    def time(self) -> FakeClock | None:
        return FakeClock() if self.fake_clock else None

    @pytest.fixture
    def context(
        self, tmp_path: Path, namespace: str, time: FakeClock | None, policies: Mapping[str, PolicyConfig]
    ) -> Surroundings:
        return Surroundings(tmp_path, namespace=namespace, clock=Clock(time), policies=policies)

    @pytest.fixture
    def runner(self) -> Iterator[asyncio.Runner]:
        with asyncio.Runner() as runner:
            yield runner

    @pytest.fixture
    def tier(self, config: FarTierConfig, context: Surroundings, runner: asyncio.Runner) -> Iterator[FarTier]:
        tier = config.build(context)
        runner.run(tier.open())
        yield tier
        runner.run(tier.close())

    @pytest.fixture
    def address(self, namespace: str) -> _Address:
        return _Address(namespace)

    def wait(self, context: Surroundings, seconds: float) -> None:
        """Let *seconds* pass, for the tier and for the context's clock."""
        source = context.clock.wall
        if isinstance(source, FakeClock):
            source.advance(seconds)
        else:
            time.sleep(seconds)

    def having(self, ability: type[Any]) -> None:
        """Skip the test where the tier does not claim *ability*."""
        if ability not in self.abilities:
            pytest.skip(f"the tier does not implement {ability.__name__}")

    # Configuration

    def test_the_configuration_names_its_type(self, config: FarTierConfig) -> None:
        name = type(config).type_name()
        assert name == name.lower()
        assert name.replace("_", "").isalnum()
        assert getattr(config, "type", None) == name

    def test_the_configuration_refuses_unknown_options(self, config: FarTierConfig) -> None:
        with pytest.raises(ValidationError, match="no_such_option"):
            type(config).model_validate({"no_such_option": 1})

    def test_every_option_is_described(self, config: FarTierConfig) -> None:
        fields = type(config).model_fields
        assert not [name for name, field in fields.items() if name != "type" and not field.description]
        assert type(config).model_json_schema()["additionalProperties"] is False

    def test_the_configuration_passes_its_own_check(
        self, config: FarTierConfig, context: Surroundings
    ) -> None:
        assert list(config.check(context)) == []

    def test_building_does_no_io(
        self, config: FarTierConfig, context: Surroundings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            pytest.fail("build opened a connection")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket.socket, "connect_ex", refuse)
        threads = threading.active_count()
        before = sorted(context.directory.rglob("*"))
        config.build(context)
        assert sorted(context.directory.rglob("*")) == before
        assert threading.active_count() == threads

    def test_the_tier_has_the_abilities_it_claims(self, tier: FarTier) -> None:
        for ability in (Scans, Wipes, Swaps, Counts):
            assert isinstance(tier, ability) == (ability in self.abilities), ability.__name__

    def test_counts_are_integers_by_name(
        self, tier: FarTier, address: _Address, runner: asyncio.Runner
    ) -> None:
        if not isinstance(tier, Measured):
            pytest.skip("the tier measures nothing")
        runner.run(tier.write([record_of(address("a"))]))
        runner.run(tier.read([address("a")]))
        stats = tier.stats()
        assert stats
        assert all(type(name) is str and type(count) is int for name, count in stats.items())

    # Life

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
        self, config: FarTierConfig, context: Surroundings, address: _Address, runner: asyncio.Runner
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
        address: _Address,
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

    # Batches

    def test_empty_batches_give_empty_answers(self, tier: FarTier, runner: asyncio.Runner) -> None:
        assert list(runner.run(tier.read([]))) == []
        assert list(runner.run(tier.write([]))) == []
        assert list(runner.run(tier.delete([]))) == []

    def test_answers_come_in_the_order_of_the_batch(
        self, tier: FarTier, address: _Address, runner: asyncio.Runner
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
        self, tier: FarTier, address: _Address, runner: asyncio.Runner
    ) -> None:
        key = address("a")
        first, second = record_of(key, b"first", stamp=5), record_of(key, b"second", stamp=6)
        assert list(runner.run(tier.write([first, second]))) == [5, 6]
        assert list(runner.run(tier.read([key, address("b"), key]))) == [second.frame, None, second.frame]
        assert list(runner.run(tier.delete([key, key]))) == [True, False]

    @pytest.mark.parametrize("size", [0, 1, 127, 4096, 70_000, None])
    def test_frames_come_back_byte_for_byte(
        self, tier: FarTier, address: _Address, runner: asyncio.Runner, size: int | None
    ) -> None:
        payload = random.Random(size).randbytes(self.largest if size is None else size)
        record = record_of(address("a"), payload)
        assert list(runner.run(tier.write([record]))) == [1]
        (frame,) = runner.run(tier.read([record.key]))
        assert type(frame) is bytes
        assert frame == record.frame

    def test_hostile_keys_name_one_entry_each(
        self, tier: FarTier, address: _Address, runner: asyncio.Runner
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
        self, tier: FarTier, address: _Address, runner: asyncio.Runner
    ) -> None:
        records = [record_of(address(f"key:{n}"), b"%d" % n) for n in range(64)]

        async def together() -> None:
            async with asyncio.TaskGroup() as group:
                for n in range(0, 64, 8):
                    group.create_task(_coroutine(tier.write(records[n : n + 8])))
                    group.create_task(_coroutine(tier.read([record.key for record in records])))

        runner.run(together())
        assert list(runner.run(tier.read([record.key for record in records]))) == [
            record.frame for record in records
        ]

    # Expiry

    def test_an_entry_goes_when_its_time_has_come(
        self, tier: FarTier, context: Surroundings, address: _Address, runner: asyncio.Runner
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
        self, tier: FarTier, context: Surroundings, address: _Address, runner: asyncio.Runner
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
        self, tier: FarTier, context: Surroundings, address: _Address, runner: asyncio.Runner
    ) -> None:
        soon = context.clock.micros() + 150_000
        longer, shorter = address("longer"), address("shorter")
        runner.run(tier.write([record_of(longer, expires_at=soon), record_of(shorter)]))
        kept = record_of(longer, stamp=2)
        runner.run(tier.write([kept, record_of(shorter, stamp=2, expires_at=soon)]))
        self.wait(context, 0.3)
        assert list(runner.run(tier.read([longer, shorter]))) == [kept.frame, None]

    # Stamps

    @pytest.mark.parametrize("standing", [6, 5])
    def test_a_conditional_write_is_kept_out_by_what_is_not_older(
        self, tier: FarTier, address: _Address, runner: asyncio.Runner, standing: int
    ) -> None:
        key = address("a")
        stands = record_of(key, b"stands", stamp=standing)
        runner.run(tier.write([stands]))
        late = record_of(key, b"late", stamp=5, conditional=True)
        assert list(runner.run(tier.write([late]))) == [0]
        assert list(runner.run(tier.read([key]))) == [stands.frame]

    def test_a_conditional_write_replaces_what_is_older(
        self, tier: FarTier, address: _Address, runner: asyncio.Runner
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
        self, tier: FarTier, context: Surroundings, address: _Address, runner: asyncio.Runner
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
        self, tier: FarTier, address: _Address, runner: asyncio.Runner, standing: int
    ) -> None:
        key = address("a")
        runner.run(tier.write([record_of(key, b"stands", stamp=standing)]))
        record = record_of(key, b"wins", stamp=5)
        assert list(runner.run(tier.write([record]))) == [standing + 1]
        (frame,) = runner.run(tier.read([key]))
        assert frame == restamped(record.frame, standing + 1)

    # Abilities

    def test_a_scan_takes_its_prefix_literally(
        self, tier: FarTier, address: _Address, runner: asyncio.Runner
    ) -> None:
        self.having(Scans)
        names = [
            "user:1",
            "user:2",
            "userX",
            "u*r:1",
            "uABr:1",
            "a[b]c",
            "abc",
            "q?",
            "qx",
            "p\\x",
            "px",
            "%1",
            "z1",
        ]
        runner.run(tier.write([record_of(address(name)) for name in (*names, *HOSTILE)]))
        runner.run(
            tier.write([record_of(f"{address.namespace}x:user:1"), record_of(f"x{address('user:1')}")])
        )
        every = {address(name) for name in (*names, *HOSTILE)}
        for prefix in ("", "user:", "u*r", "a[b]", "q?", "p\\", "%", "_", "x" * 999, "🦊", "{tag}", "nobody"):
            found = runner.run(_scan(tier, address(prefix)))
            assert set(found) == {key for key in every if key.startswith(address(prefix))}, prefix

    def test_a_scan_finds_all_of_many_and_nothing_expired(
        self, tier: FarTier, context: Surroundings, address: _Address, runner: asyncio.Runner
    ) -> None:
        self.having(Scans)
        soon = context.clock.micros() + 150_000
        runner.run(tier.write([record_of(address(f"many:{n}")) for n in range(1500)]))
        runner.run(tier.write([record_of(address(f"many:gone{n}"), expires_at=soon) for n in range(20)]))
        self.wait(context, 0.3)
        found = runner.run(_scan(tier, address("many:")))
        assert set(found) == {address(f"many:{n}") for n in range(1500)}

    def test_a_wipe_drops_its_prefix_and_nothing_else(
        self, tier: FarTier, address: _Address, runner: asyncio.Runner
    ) -> None:
        self.having(Wipes)
        assert isinstance(tier, Wipes)
        gone = [record_of(address(f"u*r:{n}")) for n in range(700)]
        stay = [
            *(record_of(address(name)) for name in ("user:1", "u*", "U*R:1", "u*r")),
            record_of(f"{address.namespace}x:u*r:1"),
            record_of(f"x{address('u*r:1')}"),
        ]
        runner.run(tier.write([*gone, *stay]))
        runner.run(_coroutine(tier.wipe(address("u*r:"))))
        assert set(runner.run(tier.read([record.key for record in gone]))) == {None}
        assert list(runner.run(tier.read([r.key for r in stay]))) == [r.frame for r in stay]
        runner.run(_coroutine(tier.wipe(address("nobody"))))
        runner.run(tier.delete([record.key for record in stay]))

    def test_a_swap_needs_the_stamp_it_expects(
        self, tier: FarTier, context: Surroundings, address: _Address, runner: asyncio.Runner
    ) -> None:
        self.having(Swaps)
        assert isinstance(tier, Swaps)
        soon = context.clock.micros() + 150_000
        key = address("a")
        first, second = record_of(key, b"1", stamp=7, expires_at=soon), record_of(key, b"2", stamp=3)
        assert runner.run(tier.swap(first, 5)) is False
        assert runner.run(tier.swap(first, None)) is True
        if self.fake_clock:
            assert runner.run(tier.swap(second, None)) is False
            assert runner.run(tier.swap(second, 6)) is False
            assert list(runner.run(tier.read([key]))) == [first.frame]
        self.wait(context, 0.3)
        assert runner.run(tier.swap(second, 7)) is False, "an expired frame counts as nothing"
        assert runner.run(tier.swap(second, None)) is True
        third = record_of(key, b"3", stamp=2)
        assert runner.run(tier.swap(third, 3)) is True
        assert list(runner.run(tier.read([key]))) == [third.frame]

    def test_a_counter_is_created_raised_and_keeps_its_expiry(
        self, tier: FarTier, context: Surroundings, address: _Address, runner: asyncio.Runner
    ) -> None:
        self.having(Counts)
        assert isinstance(tier, Counts)
        soon = context.clock.micros() + 400_000
        key = address("a")
        assert runner.run(tier.increment(record_of(key, 5, stamp=3, expires_at=soon), 5)) == 5
        assert runner.run(tier.increment(record_of(key, -7, stamp=4), -7)) == -2
        (frame,) = runner.run(tier.read([key]))
        assert frame is not None
        head = unpack(key.encode(), frame)
        assert head.flags & COUNTER
        assert frame[head.payload :] == b"-2"
        self.wait(context, 0.6)
        assert list(runner.run(tier.read([key]))) == [None]
        assert runner.run(tier.increment(record_of(key, 1, stamp=9), 1)) == 1

    def test_a_swap_fails_where_a_counter_was_raised_in_between(
        self, tier: FarTier, address: _Address, runner: asyncio.Runner
    ) -> None:
        self.having(Counts)
        self.having(Swaps)
        assert isinstance(tier, Counts)
        assert isinstance(tier, Swaps)
        key = address("a")
        runner.run(tier.increment(record_of(key, 1, stamp=3), 1))
        (before,) = runner.run(tier.read([key]))
        assert before is not None
        runner.run(tier.increment(record_of(key, 1, stamp=4), 1))
        assert runner.run(tier.swap(record_of(key, 1, stamp=9), stamp_of(before))) is False

    def test_counters_are_exact_to_the_borders_of_64_bits(
        self, tier: FarTier, address: _Address, runner: asyncio.Runner
    ) -> None:
        self.having(Counts)
        assert isinstance(tier, Counts)
        for sign, border in ((1, 2**63 - 1), (-1, -(2**63))):
            key = address(f"border{sign}")
            near = border - sign
            assert runner.run(tier.increment(record_of(key, near), near)) == near
            assert runner.run(tier.increment(record_of(key, sign), sign)) == border
            for delta in (sign, border):
                with pytest.raises(OverflowError):
                    runner.run(tier.increment(record_of(key, delta), delta))
            assert runner.run(tier.increment(record_of(key, 0), 0)) == border
            assert runner.run(tier.increment(record_of(key, -border // 2), -border // 2)) == border + (
                -border // 2
            )

    def test_what_is_no_counter_is_not_raised(
        self, tier: FarTier, address: _Address, runner: asyncio.Runner
    ) -> None:
        self.having(Counts)
        assert isinstance(tier, Counts)
        record = record_of(address("a"), b"12")
        runner.run(tier.write([record]))
        with pytest.raises(TypeError):
            runner.run(tier.increment(record_of(record.key, 1, stamp=5), 1))
        assert list(runner.run(tier.read([record.key]))) == [record.frame]

    def test_concurrent_increments_sum(
        self, tier: FarTier, address: _Address, runner: asyncio.Runner
    ) -> None:
        self.having(Counts)
        assert isinstance(tier, Counts)
        key = address("a")

        async def together() -> list[int]:
            return await asyncio.gather(*(tier.increment(record_of(key, n), n) for n in range(1, 51)))

        assert max(runner.run(together())) == sum(range(1, 51))

    # Everything at once

    def test_the_tier_agrees_with_a_dictionary(
        self,
        config: FarTierConfig,
        context: Surroundings,
        address: _Address,
        runner: asyncio.Runner,
    ) -> None:
        check_against_model(
            lambda: config.build(context),
            runner,
            context.clock,
            address.namespace,
            reopens=self.persists,
            abilities=self.abilities,
            examples=self.examples,
        )


class _Address:
    """Puts the namespace in front of a key."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def __call__(self, key: str) -> str:
        return f"{self.namespace}:{key}"


async def _coroutine(awaitable: Any) -> Any:
    return await awaitable


async def _scan(tier: FarTier, prefix: str) -> list[str]:
    assert isinstance(tier, Scans)
    return [key async for chunk in tier.scan(prefix) for key in chunk]
