from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tiercache import Entry, Terms
from tiercache_plugins.policies.ttl import TtlConfig
from tiercache_plugins.tiers.memory.tier import MemoryTier

LIVES = st.one_of(st.integers(1, 9).map(float), st.just(math.inf))


@given(st.lists(st.tuples(st.sampled_from("ppx"), st.integers(0, 9), LIVES), max_size=150), st.integers(1, 6))
def test_what_expires_soonest_goes_and_of_equals_the_oldest(
    steps: list[tuple[str, int, float]], capacity: int
) -> None:
    tier, terms = MemoryTier(TtlConfig(), capacity), Terms("r")
    for stamp, (what, number, life) in enumerate(steps):
        key = f"k{number}"
        if what == "x":
            tier.remove(key)
            continue
        before = {held: e.fresh_until for held in tier.keys() if (e := tier.get(held)) is not None}
        tier.put(Entry(key, number, stamp, life, terms))
        gone = set(before) - set(tier.keys())
        assert len(gone) == (key not in before and len(before) == capacity)
        assert all(before[victim] == min(before.values()) for victim in gone)


def test_of_entries_that_never_expire_the_oldest_goes() -> None:
    tier, terms = MemoryTier(TtlConfig(), 100), Terms("r")
    for number in range(300):
        tier.put(Entry(f"k{number}", number, 1, math.inf, terms))
        if number % 3 == 0 and number < 250:
            tier.put(Entry("soon", number, number, 5.0, terms))
    assert set(tier.keys()) == {f"k{number}" for number in range(200, 300)}


def test_a_crowd_of_one_moment_gives_back_what_is_removed() -> None:
    policy, terms = TtlConfig().build(1000), Terms("r")
    for number in range(1000):
        entry = Entry(f"k{number}", number, 1, 7.0, terms)
        policy.entries[entry.key] = entry
        policy.added(entry)
    for number in range(0, 1000, 2):
        policy.removed(policy.entries.pop(f"k{number}"))
    assert [entry.key for entry in policy.victims(3, 0)] == ["k1", "k3", "k5"]
    assert len(policy.victims(1000, 0)) == 497
    assert policy.victims(1, 0) == []
