"""What all parts of the suite stand on: class attributes, fixtures, and the keys to try."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tiercache.clock import Clock
from tiercache.contracts import (
    Counts,
    FarTier,
    FarTierConfig,
    Heads,
    Locks,
    Marks,
    PolicyConfig,
    Scans,
    Swaps,
    Wipes,
)
from tiercache.testing.clock import FakeClock
from tiercache.testing.tiers.surroundings import Surroundings

HOSTILE = (
    "a", "A", "b", "%", "_", "?", "*", "user:1", "user:*", "user:", "naïve", "nai\u0308ve", "x" * 1000, "a b",
    "{tag}x", "{}", "[a-z]", "\\", "\\*", "'", '"; --', "🦊", "\uffff", "ключ", "0", "-1", "None",
)  # fmt: skip


class Address:
    """Puts the namespace in front of a key."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def __call__(self, key: str) -> str:
        return f"{self.namespace}:{key}"


class Ground:
    """Class attributes and fixtures of the suite."""

    persists: ClassVar[bool] = True
    """Whether entries outlive `close`, and another tier built of the same configuration finds them."""
    fake_clock: ClassVar[bool] = True
    """Whether expiry follows the context's clock. Otherwise tests of it sleep for some 0.3 s."""
    abilities: ClassVar[tuple[type[Any], ...]] = (Scans, Wipes, Swaps, Counts, Marks, Heads, Locks)
    """Which further Protocols the tier implements."""
    largest: ClassVar[int] = 3 * 2**20
    """Bytes of the largest payload to try."""
    examples: ClassVar[int] = 20
    """Runs of the state machine, of 25 steps each."""

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
    def address(self, namespace: str) -> Address:
        return Address(namespace)

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


async def finish(awaitable: Any) -> Any:
    """Await what may be no coroutine, for `Runner.run` and tasks."""
    return await awaitable
