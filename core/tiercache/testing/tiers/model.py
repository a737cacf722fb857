"""A far tier beside a dictionary, driven by Hypothesis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tiercache.clock import NEVER, Clock
from tiercache.contracts import Counts, FarTier, Record, Scans, Swaps, Wipes
from tiercache.frame import COUNTER, restamped, stamp_of, unpack
from tiercache.testing.clock import FakeClock
from tiercache.testing.tiers.frames import record_of

NAMES = ("a", "a:1", "a:2", "b", "*", "naïve")
STAMPS = st.integers(1, 12)
LIVES = st.one_of(st.none(), st.integers(-2, 6))
"""Seconds an entry lives; None for ever. Half a second is added, so that no step meets the border."""
WRITES = st.lists(
    st.tuples(st.sampled_from(NAMES), st.binary(max_size=40), STAMPS, LIVES, st.booleans()), max_size=5
)
PREFIXES = st.sampled_from(("", "a", "a:", "*", "z"))


class Held(NamedTuple):
    """What the dictionary knows of a key."""

    frame: bytes
    expires_at: int


def check_against_model(
    build: Callable[[], FarTier],
    runner: asyncio.Runner,
    clock: Clock,
    namespace: str,
    *,
    reopens: bool,
    abilities: tuple[type[Any], ...],
    examples: int,
) -> None:
    """Run random histories on the tiers that *build* makes; fail where one differs from a dictionary."""
    numbers = count()

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.held: dict[str, Held] = {}
            self.prefix = f"{namespace}-{next(numbers)}:"
            self.tier: Any = None

        @initialize()
        def open(self) -> None:
            self.tier = build()
            runner.run(self.tier.open())

        @rule(writes=WRITES)
        def write(self, writes: list[tuple[str, bytes, int, int | None, bool]]) -> None:
            records = [
                record_of(
                    self.prefix + name,
                    payload,
                    stamp=stamp,
                    expires_at=_expiry(clock, life),
                    conditional=only_newer,
                )
                for name, payload, stamp, life, only_newer in writes
            ]
            answers = runner.run(self.tier.write(records))
            assert len(answers) == len(records)
            for record, answer in zip(records, answers, strict=True):
                expected = self.expect(record)
                # What was too late to stand anywhere has no stamp to agree on.
                assert record.expires_at <= clock.micros() or answer == expected

        def expect(self, record: Record) -> int:
            standing = self.standing(record.key)
            if standing is not None and standing >= record.stamp:
                if record.conditional:
                    return 0
                record = record._replace(stamp=standing + 1, frame=restamped(record.frame, standing + 1))
            self.held[record.key] = Held(record.frame, record.expires_at)
            return record.stamp

        def standing(self, key: str) -> int | None:
            held = self.held.get(key)
            if held is None or held.expires_at <= clock.micros():
                return None
            return stamp_of(held.frame)

        @rule(names=st.lists(st.sampled_from(NAMES), max_size=6))
        def read(self, names: list[str]) -> None:
            keys = [self.prefix + name for name in names]
            frames = runner.run(self.tier.read(keys))
            assert list(frames) == [
                None if self.standing(key) is None else self.held[key].frame for key in keys
            ]

        @rule(names=st.lists(st.sampled_from(NAMES), max_size=3))
        def delete(self, names: list[str]) -> None:
            keys = [self.prefix + name for name in names]
            expected = []
            for key in keys:
                expected.append(self.standing(key) is not None)
                self.held.pop(key, None)
            assert list(runner.run(self.tier.delete(keys))) == expected

        @precondition(lambda _: isinstance(clock.wall, FakeClock))
        @rule(seconds=st.integers(1, 4))
        def advance(self, seconds: int) -> None:
            assert isinstance(clock.wall, FakeClock)
            clock.wall.advance(seconds)

        @precondition(lambda _: reopens)
        @rule()
        def reopen(self) -> None:
            runner.run(self.tier.close())
            self.open()

        @precondition(lambda _: Scans in abilities)
        @rule(prefix=PREFIXES)
        def scan(self, prefix: str) -> None:
            found = runner.run(self.collect(self.prefix + prefix))
            assert found == {
                key
                for key in self.held
                if key.startswith(self.prefix + prefix) and self.standing(key) is not None
            }

        async def collect(self, prefix: str) -> set[str]:
            return {key async for chunk in self.tier.scan(prefix) for key in chunk}

        @precondition(lambda _: Wipes in abilities)
        @rule(prefix=PREFIXES)
        def wipe(self, prefix: str) -> None:
            runner.run(self.tier.wipe(self.prefix + prefix))
            self.held = {
                key: held for key, held in self.held.items() if not key.startswith(self.prefix + prefix)
            }

        @precondition(lambda _: Swaps in abilities)
        @rule(name=st.sampled_from(NAMES), stamp=STAMPS, hit=st.booleans(), other=st.none() | STAMPS)
        def swap(self, name: str, stamp: int, hit: bool, other: int | None) -> None:
            record = record_of(self.prefix + name, b"swapped", stamp=stamp)
            standing = self.standing(record.key)
            expected = standing if hit else other
            assert runner.run(self.tier.swap(record, expected)) is (standing == expected)
            if standing == expected:
                self.held[record.key] = Held(record.frame, record.expires_at)

        @precondition(lambda _: Counts in abilities)
        @rule(
            name=st.sampled_from(NAMES),
            delta=st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9),
            life=LIVES,
        )
        def increment(self, name: str, delta: int, life: int | None) -> None:
            life = None if life is None else abs(life)
            record = record_of(self.prefix + name, delta, stamp=1, expires_at=_expiry(clock, life))
            standing = self.standing(record.key)
            before = self.held[record.key] if standing is not None else None
            total = delta
            if before is not None:
                head = unpack(record.key.encode(), before.frame)
                if not head.flags & COUNTER:
                    total = 2**63
                else:
                    total += int(before.frame[head.payload :])
            if before is not None and not -(2**63) <= total < 2**63:
                try:
                    answer = runner.run(self.tier.increment(record, delta))
                except (TypeError, OverflowError):
                    return
                raise AssertionError(f"increment gave {answer} where it had to refuse")
            frame = runner.run(self.tier.increment(record, delta))
            # An increment raises the stamp as it sees fit; the frame says what to.
            assert list(runner.run(self.tier.read([record.key]))) == [frame]
            head = unpack(record.key.encode(), frame)
            assert frame[head.payload :] == b"%d" % total
            assert standing is None or head.stamp > standing
            self.held[record.key] = Held(frame, record.expires_at if before is None else before.expires_at)

        def teardown(self) -> None:
            if self.tier is not None:
                runner.run(self.tier.delete([self.prefix + name for name in NAMES]))
                runner.run(self.tier.close())

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
        ),
    )


def _expiry(clock: Clock, life: int | None) -> int:
    # A tier that expires by its own clock must not be raced: there, only the long past and the far future.
    if life is None:
        return NEVER
    if not isinstance(clock.wall, FakeClock):
        life = (life or 1) * 3600
    return clock.micros() + life * 1_000_000 + 500_000
