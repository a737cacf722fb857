from __future__ import annotations

import math
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from pydantic import ValidationError

from tiercache import Entry, PolicyConfig, Terms
from tiercache_plugins.policies.hybrid import HybridConfig
from tiercache_plugins.policies.lru import LruConfig
from tiercache_plugins.tiers.memory import MemoryConfig
from tiercache_plugins.tiers.memory.tier import MemoryTier
from tiercache_plugins.tiers.memory.weight import weigh


class Context:
    def policy(self, reference: str) -> PolicyConfig:
        assert reference == "mine"
        return LruConfig()


def test_options_reach_the_tier() -> None:
    config = MemoryConfig(policy="mine", max_entries=3, max_bytes="1KiB", max_ttl="1m")
    tier = config.build(Context())
    assert tier.max_ttl == 60.0
    assert tier.touch is not None
    terms = Terms("r")
    for number in range(9):
        tier.put(Entry(f"k{number}", number, 1, math.inf, terms))
    assert list(tier.keys()) == ["k6", "k7", "k8"]
    tier.put(Entry("k9", bytes(900), 1, math.inf, terms))
    assert tier.stats()["entries"] == 1


def test_defaults_are_those_documented() -> None:
    config = MemoryConfig()
    assert (config.max_entries, config.max_bytes, config.policy) == (10_000, None, "hybrid")


@pytest.mark.parametrize("wrong", [{"max_entries": 0}, {"max_bytes": 0}, {"size": 3}])
def test_options_that_mean_nothing_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        MemoryConfig(**wrong)


@pytest.mark.parametrize(
    ("policy", "bound", "segments"),
    [
        (HybridConfig(), 65_536, None),
        (HybridConfig(), 65_537, 8),
        (HybridConfig(), 1_000_000, 64),
        (LruConfig(), 16_384, None),
        (LruConfig(), 16_385, 16),
        (LruConfig(), 1_000_000, 512),
        (HybridConfig(), 10**9, 512),
    ],
)
def test_large_bounds_are_split_into_a_power_of_two(
    policy: PolicyConfig, bound: int, segments: int | None
) -> None:
    tier = MemoryTier(policy, bound)
    assert (tier.segments and len(tier.segments)) == segments
    assert (tier.entries is None) == (segments is not None)


def test_all_segments_together_hold_what_the_bound_says() -> None:
    tier, terms = MemoryTier(LruConfig(), 20_000), Terms("r")
    for number in range(20_000):
        tier.put(Entry(f"k{number}", number, 1, math.inf, terms))
    assert tier.stats() == {
        "entries": 20_000, "bytes": 0, "evicted": 0, "expired": 0, "refused": 0, "hits": 0,
    }  # fmt: skip
    for number in range(30_000):
        tier.put(Entry(f"l{number}", number, 1, math.inf, terms))
        assert tier.stats()["entries"] == 20_000 if number % 5000 == 0 else True


def test_a_value_may_be_heavier_than_a_segments_share_of_the_bytes() -> None:
    tier, terms = MemoryTier(LruConfig(), 100_000, 100_000), Terms("r")
    assert tier.segments is not None
    for number in range(500):
        tier.put(Entry(f"k{number}", b"", 1, math.inf, terms))
    tier.put(Entry("heavy", bytes(95_000), 1, math.inf, terms))
    assert tier.get("heavy") is not None
    assert 0 < tier.stats()["bytes"] <= 100_000


def test_a_policy_that_finds_no_victim_leaves_the_newcomer_out() -> None:
    class Stubborn:
        def __init__(self) -> None:
            self.entries: dict[str, Entry] = {}
            self.touch = None

        def added(self, entry: Entry) -> None: ...
        def removed(self, entry: Entry) -> None: ...

        def victims(self, count: int, weight: int) -> list[Entry]:
            return []

    class StubbornConfig(PolicyConfig):
        def build(self, capacity: int) -> Stubborn:
            return Stubborn()

    tier, terms = MemoryTier(StubbornConfig(), 1), Terms("r")
    first = tier.put(Entry("a", 1, 1, 5.0, terms))
    second = Entry("b", 2, 1, math.inf, terms)
    assert tier.put(second) is second
    assert tier.get("b") is None
    assert tier.get("a") is first
    assert tier.stats()["refused"] == 1
    while tier.work(6.0, 0.001):
        pass
    assert tier.get("a") is None
    tier.put(second)
    tier.clear()
    while tier.work(6.0, 0.001):
        pass
    assert second.fresh_until == -math.inf


def test_replaced_values_are_released_outside_the_lock() -> None:
    tier, terms = MemoryTier(HybridConfig(), 2), Terms("r")

    class Reentrant:
        def __del__(self) -> None:
            tier.remove("other")

    tier.put(Entry("k", Reentrant(), 1, math.inf, terms))
    tier.put(Entry("k", 2, 2, math.inf, terms))
    tier.put(Entry("k", Reentrant(), 3, math.inf, terms))
    tier.remove("k")
    for number in range(9):
        tier.put(Entry(f"k{number}", Reentrant(), 1, math.inf, terms))
    assert tier.stats()["entries"] == 2


class Meddling:
    """A policy that does something while the tier is in the middle of a write."""

    def __init__(self, act: Callable[[Entry], object]) -> None:
        self.entries: dict[str, Entry] = {}
        self.touch = None
        self._act = act

    def added(self, entry: Entry) -> None:
        entry.place = 1
        self._act(entry)

    def removed(self, entry: Entry) -> None:
        entry.place = 0

    def victims(self, count: int, weight: int) -> list[Entry]:
        chosen = list(self.entries.values())[:count]
        for entry in chosen:
            entry.place = 0
        return chosen


def meddled(act: Callable[[Entry], object]) -> MemoryTier:
    class MeddlingConfig(PolicyConfig):
        def build(self, capacity: int) -> Meddling:
            return Meddling(act)

    return MemoryTier(MeddlingConfig(), 3)


def test_a_write_in_the_middle_of_another_is_done_after_it() -> None:
    terms = Terms("r")
    seen = []

    def act(entry: Entry) -> None:
        if entry.key == "outer":
            tier.put(Entry("inner", 2, 1, math.inf, terms))
            seen.append((tier.get("inner"), tier.remove("outer"), tier.work(0.0, 0.001)))

    tier = meddled(act)
    tier.put(Entry("outer", 1, 1, math.inf, terms))
    assert seen == [(None, True, True)]
    inner = tier.get("inner")
    assert inner is not None
    assert inner.value == 2
    assert tier.get("outer") is None
    assert tier.stats()["entries"] == 1


def test_a_thread_waits_until_another_has_written() -> None:
    terms = Terms("r")
    begun, go_on = threading.Event(), threading.Event()

    def act(entry: Entry) -> None:
        if entry.key == "first":
            begun.set()
            assert go_on.wait(30)

    def write(key: str) -> None:
        tier.put(Entry(key, key, 1, math.inf, terms))

    tier = meddled(act)
    threads = [threading.Thread(target=write, args=(key,)) for key in ("first", "second", "third")]
    threads[0].start()
    assert begun.wait(30)
    for thread in threads[1:]:
        thread.start()
    threads[1].join(0.05)
    assert threads[1].is_alive()
    assert tier.stats()["entries"] <= 1
    assert tier.get("second") is None
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert set(tier.keys()) == {"first", "second", "third"}
    assert tier.stats()["entries"] == 3


def test_a_policy_that_fails_leaves_the_tier_to_others() -> None:
    terms = Terms("r")

    def act(entry: Entry) -> None:
        if entry.key == "wrong":
            raise ValueError("wrong")

    tier = meddled(act)
    with pytest.raises(ValueError, match="wrong"):
        tier.put(Entry("wrong", 1, 1, math.inf, terms))
    thread = threading.Thread(target=tier.put, args=(Entry("right", 1, 1, math.inf, terms),), daemon=True)
    thread.start()
    thread.join(30)
    assert tier.get("right") is not None


def test_an_entry_that_is_held_may_be_put_again() -> None:
    tier, entry = MemoryTier(HybridConfig(), 3), Entry("k", 1, 1, math.inf, Terms("r"))
    for _ in range(5):
        assert tier.put(entry) is entry
    assert tier.stats()["entries"] == 1
    assert tier.remove("k")
    assert tier.stats()["entries"] == 0


def test_sweeping_rests_longer_where_it_finds_nothing() -> None:
    tier, terms = MemoryTier(HybridConfig(), 50_000), Terms("r")
    for number in range(50_000):
        tier.put(Entry(f"k{number}", number, 1, 1e9, terms))
    while tier.work(10.0, 0.001):
        pass
    tier.put(Entry("dead", 1, 1, 5.0, terms))
    assert not tier.work(10.0, 1.0)
    assert tier.get("dead") is not None
    assert not tier.work(10_000.0, 1.0)
    assert tier.get("dead") is None


@dataclass
class Point:
    x: float
    label: str


@dataclass(slots=True)
class Slotted:
    x: float
    data: bytes


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        (None, 0, 200),
        (bytes(10_000), 10_000, 10_300),
        ("x" * 5000, 5000, 5300),
        ([bytes(1000)] * 5, 1000, 1500),
        ([bytes(1000 + at) for at in range(5)], 5000, 5800),
        ({at: str(at) * 50 for at in range(10_000)}, 1_500_000, 4_500_000),
        (list(range(1_000_000)), 30_000_000, 45_000_000),
        (deque(range(1000)), 25_000, 45_000),
        (Point(1.0, "x" * 2000), 2000, 2700),
        (Slotted(1.0, bytes(2000)), 2000, 2400),
        ({"a": [{"b": {"c": bytes(4096)}}]}, 4096, 5200),
        (Point, 0, 10_000),
        (sys, 0, 10**9),
    ],
)
def test_weights_are_about_right(value: object, least: int, most: int) -> None:
    assert least <= weigh("key", value) <= most


def test_weighing_ends_whatever_the_value() -> None:
    endless: list = []
    endless.append(endless)
    assert weigh("k", endless) < 500
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert weigh("k", deep) > 1000
    while deep:
        deep = deep[0]

    class Hostile:
        def __sizeof__(self) -> int:
            raise RuntimeError("no")

        def __getattr__(self, name: str) -> object:
            raise RuntimeError("no")

    assert 0 < weigh("k", Hostile()) < 1000
