"""Scans, Wipes, Swaps, Counts, Marks, Prompt, Heads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tiercache.contracts import (
    Counts,
    FarTier,
    FarTierConfig,
    Heads,
    Marks,
    Prompt,
    Scans,
    Swaps,
    Wipes,
)
from tiercache.frame import COUNTER, TOMBSTONE, stamp_of, unpack
from tiercache.testing.tiers.frames import raised, record_of
from tiercache.testing.tiers.ground import HOSTILE, Address, Ground, finish
from tiercache.testing.tiers.surroundings import Surroundings


class Abilities(Ground):
    """Tests of the further Protocols."""

    def test_a_scan_takes_its_prefix_literally(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
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
            found = runner.run(collect(tier, address(prefix)))
            assert set(found) == {key for key in every if key.startswith(address(prefix))}, prefix

    def test_a_scan_finds_all_of_many_and_nothing_expired(
        self, tier: FarTier, context: Surroundings, address: Address, runner: asyncio.Runner
    ) -> None:
        self.having(Scans)
        soon = context.clock.micros() + 150_000
        runner.run(tier.write([record_of(address(f"many:{n}")) for n in range(1500)]))
        runner.run(tier.write([record_of(address(f"many:gone{n}"), expires_at=soon) for n in range(20)]))
        self.wait(context, 0.3)
        found = runner.run(collect(tier, address("many:")))
        assert set(found) == {address(f"many:{n}") for n in range(1500)}

    def test_a_wipe_drops_its_prefix_and_nothing_else(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
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
        runner.run(finish(tier.wipe(address("u*r:"))))
        assert set(runner.run(tier.read([record.key for record in gone]))) == {None}
        assert list(runner.run(tier.read([r.key for r in stay]))) == [r.frame for r in stay]
        runner.run(finish(tier.wipe(address("nobody"))))
        runner.run(tier.delete([record.key for record in stay]))

    def test_a_swap_needs_the_stamp_it_expects(
        self, tier: FarTier, context: Surroundings, address: Address, runner: asyncio.Runner
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
        self, tier: FarTier, context: Surroundings, address: Address, runner: asyncio.Runner
    ) -> None:
        self.having(Counts)
        assert isinstance(tier, Counts)
        soon = context.clock.micros() + 400_000
        key = address("a")
        assert runner.run(raised(tier, record_of(key, 5, stamp=3, expires_at=soon), 5)) == 5
        assert runner.run(raised(tier, record_of(key, -7, stamp=4), -7)) == -2
        (frame,) = runner.run(tier.read([key]))
        assert frame is not None
        head = unpack(key.encode(), frame)
        assert head.flags & COUNTER
        assert frame[head.payload :] == b"-2"
        self.wait(context, 0.6)
        assert list(runner.run(tier.read([key]))) == [None]
        assert runner.run(raised(tier, record_of(key, 1, stamp=9), 1)) == 1

    def test_a_swap_fails_where_a_counter_was_raised_in_between(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        self.having(Counts)
        self.having(Swaps)
        assert isinstance(tier, Counts)
        assert isinstance(tier, Swaps)
        key = address("a")
        runner.run(raised(tier, record_of(key, 1, stamp=3), 1))
        (before,) = runner.run(tier.read([key]))
        assert before is not None
        runner.run(raised(tier, record_of(key, 1, stamp=4), 1))
        assert runner.run(tier.swap(record_of(key, 1, stamp=9), stamp_of(before))) is False

    def test_counters_are_exact_to_the_borders_of_64_bits(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        self.having(Counts)
        assert isinstance(tier, Counts)
        for sign, border in ((1, 2**63 - 1), (-1, -(2**63))):
            key = address(f"border{sign}")
            near = border - sign
            assert runner.run(raised(tier, record_of(key, near), near)) == near
            assert runner.run(raised(tier, record_of(key, sign), sign)) == border
            for delta in (sign, border):
                with pytest.raises(OverflowError):
                    runner.run(raised(tier, record_of(key, delta), delta))
            assert runner.run(raised(tier, record_of(key, 0), 0)) == border
            assert runner.run(raised(tier, record_of(key, -border // 2), -border // 2)) == border + (
                -border // 2
            )

    def test_what_is_no_counter_is_not_raised(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        self.having(Counts)
        assert isinstance(tier, Counts)
        record = record_of(address("a"), b"12")
        runner.run(tier.write([record]))
        with pytest.raises(TypeError):
            runner.run(raised(tier, record_of(record.key, 1, stamp=5), 1))
        assert list(runner.run(tier.read([record.key]))) == [record.frame]

    def test_a_counter_begins_anew_above_a_tombstone(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        self.having(Counts)
        assert isinstance(tier, Counts)
        key = address("a")
        runner.run(tier.write([record_of(key, b"", stamp=8, flags=TOMBSTONE)]))
        assert runner.run(raised(tier, record_of(key, 3, stamp=5), 3)) == 3
        (frame,) = runner.run(tier.read([key]))
        assert frame is not None
        assert stamp_of(frame) > 8, "what the tombstone keeps out would replace the counter"
        assert unpack(key.encode(), frame).flags & COUNTER

    def test_concurrent_increments_sum(self, tier: FarTier, address: Address, runner: asyncio.Runner) -> None:
        self.having(Counts)
        assert isinstance(tier, Counts)
        key = address("a")

        async def together() -> list[int]:
            return await asyncio.gather(*(raised(tier, record_of(key, n), n) for n in range(1, 51)))

        assert max(runner.run(together())) == sum(range(1, 51))

    def test_markers_only_rise_until_they_are_dropped(
        self, tier: FarTier, namespace: str, runner: asyncio.Runner
    ) -> None:
        self.having(Marks)
        assert isinstance(tier, Marks)
        assert dict(runner.run(finish(tier.marks()))) == {}
        names = ["*", *(f"t:{name}" for name in HOSTILE), *(f"p:{name}" for name in HOSTILE)]
        markers = {name: 2**52 + n for n, name in enumerate(names, 1)}
        runner.run(tier.mark(markers, 0))
        assert dict(runner.run(finish(tier.marks()))) == markers
        runner.run(tier.mark({"*": 2**52 + 3, "t:a": 5, "t:new": 2**40}, 0))
        markers |= {"*": 2**52 + 3, "t:new": 2**40}
        assert dict(runner.run(finish(tier.marks()))) == markers
        runner.run(tier.mark({"*": 2**52 + 20}, 2**52 + 20))
        markers["*"] = 2**52 + 20
        assert dict(runner.run(finish(tier.marks()))) == {
            name: stamp for name, stamp in markers.items() if stamp >= 2**52 + 20
        }
        runner.run(tier.mark({}, 2**63 - 1))
        assert dict(runner.run(finish(tier.marks()))) == {}, namespace

    def test_many_markers_are_raised_at_once(self, tier: FarTier, runner: asyncio.Runner) -> None:
        self.having(Marks)
        assert isinstance(tier, Marks)
        markers = {f"t:{n}": n for n in range(1, 2501)}
        runner.run(tier.mark(markers, 0))
        runner.run(tier.mark({}, 0))
        assert dict(runner.run(finish(tier.marks()))) == markers
        runner.run(tier.mark({"*": 2500}, 2500))
        assert dict(runner.run(finish(tier.marks()))) == {"t:2500": 2500, "*": 2500}
        runner.run(tier.mark({}, 2**63 - 1))

    def test_markers_stand_apart_from_entries(
        self, tier: FarTier, address: Address, runner: asyncio.Runner
    ) -> None:
        self.having(Marks)
        assert isinstance(tier, Marks)
        names = [*HOSTILE, "t:a", "markers"]
        records = [record_of(address(name)) for name in names]
        runner.run(tier.write(records))
        runner.run(tier.mark({"*": 7, "t:a": 8}, 0))
        assert list(runner.run(tier.read([record.key for record in records]))) == [r.frame for r in records]
        if isinstance(tier, Scans):
            assert set(runner.run(collect(tier, address("")))) == {address(name) for name in names}
        runner.run(tier.delete([address(name) for name in names]))
        if isinstance(tier, Wipes):
            runner.run(finish(tier.wipe(address(""))))
        assert dict(runner.run(finish(tier.marks()))) == {"*": 7, "t:a": 8}
        runner.run(tier.mark({}, 2**63 - 1))

    def test_markers_outlive_the_tier_and_belong_to_their_namespace(
        self,
        config: FarTierConfig,
        tier: FarTier,
        context: Surroundings,
        namespace: str,
        runner: asyncio.Runner,
    ) -> None:
        self.having(Marks)
        if not self.persists:
            pytest.skip("nothing of the tier outlives it")
        assert isinstance(tier, Marks)
        runner.run(tier.mark({"*": 3, "p:a": 9}, 0))
        for name, found in ((namespace, {"*": 3, "p:a": 9}), (f"{namespace}x", {})):
            other = config.build(
                Surroundings(
                    context.directory, namespace=name, clock=context.clock, policies=context.policies
                )
            )
            runner.run(other.open())
            assert isinstance(other, Marks)
            assert dict(runner.run(finish(other.marks()))) == found
            runner.run(other.mark({}, 2**63 - 1))
            runner.run(other.close())

    def test_a_prompt_read_brings_what_a_read_brings_in_a_turn_of_the_loop_of_its_own(
        self, tier: FarTier, context: Surroundings, address: Address, runner: asyncio.Runner
    ) -> None:
        if not isinstance(tier, Prompt):
            pytest.skip("the tier does not implement Prompt")
        prompt: Prompt = tier
        over = context.clock.micros() - 1
        names = ["a", "é", *HOSTILE, *(f"k{number}" for number in range(300))]
        runner.run(tier.write([record_of(address(name), name.encode()) for name in names]))
        runner.run(tier.write([record_of(address("gone"), expires_at=over)]))

        async def asked(keys: list[str]) -> Sequence[bytes | None] | None:
            heard: list[Sequence[bytes | None] | None] = []
            came = asyncio.Event()

            def answered(frames: Sequence[bytes | None] | None) -> None:
                assert asyncio.current_task() is None, "answered from within a task"
                heard.append(frames)
                came.set()

            assert prompt.read_soon(keys, answered), "refused while nothing is wrong"
            assert heard == [], "answered before read_soon returned"
            async with asyncio.timeout(10):
                await came.wait()
            await asyncio.sleep(0.01)
            (frames,) = heard
            return frames

        for keys in (["é"], ["none"], ["a", "none", "gone", "é"], [*names, "none"]):
            addresses = [address(key) for key in keys]
            frames = runner.run(asked(addresses))
            assert frames is not None
            assert list(frames) == list(runner.run(finish(tier.read(addresses))))

    def test_a_prompt_read_of_a_closed_tier_is_refused_or_fails(
        self, config: FarTierConfig, context: Surroundings, address: Address, runner: asyncio.Runner
    ) -> None:
        tier = config.build(context)
        if not isinstance(tier, Prompt):
            pytest.skip("the tier does not implement Prompt")
        heard: list[Sequence[bytes | None] | None] = []

        async def ask() -> bool:
            begun = tier.read_soon([address("a")], heard.append)
            await asyncio.sleep(0.1)
            return begun

        assert runner.run(ask()) == bool(heard)
        runner.run(tier.open())
        runner.run(tier.close())
        assert runner.run(ask()) == bool(heard)
        assert set(heard) <= {None}

    def test_heads_are_the_beginnings_of_frames_and_tell_of_markers(
        self, tier: FarTier, context: Surroundings, address: Address, runner: asyncio.Runner
    ) -> None:
        self.having(Heads)
        assert isinstance(tier, Heads)
        over = context.clock.micros() - 1
        runner.run(tier.write([record_of(address("a"), b"x" * 100), record_of(address("é"), 5)]))
        runner.run(tier.write([record_of(address("gone"), expires_at=over)]))
        keys = [address("é"), address("none"), address("a"), address("gone")]
        marked, heads = runner.run(finish(tier.heads(keys)))
        frames = runner.run(finish(tier.read(keys)))
        assert list(heads) == [None if frame is None else frame[:48] for frame in frames]
        assert runner.run(finish(tier.heads(keys[:1])))[0] == marked
        if isinstance(tier, Marks):
            seen = {marked}
            for stamp in (5, 6, 7):
                runner.run(tier.mark({"t:a": stamp}, 0))
                seen.add(runner.run(finish(tier.heads([])))[0])
            assert len(seen) == 4
            assert dict(runner.run(finish(tier.marks()))) == {"t:a": 7}
            runner.run(tier.mark({}, 2**63 - 1))


async def collect(tier: FarTier, prefix: str) -> list[str]:
    assert isinstance(tier, Scans)
    return [key async for chunk in tier.scan(prefix) for key in chunk]
