from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from bench import rivals, traces
from tiercache import Entry, Terms
from tiercache_plugins.policies.lfu import LfuConfig
from tiercache_plugins.tiers.memory.tier import MemoryTier


def replay(config: LfuConfig, trace: list[int], capacity: int) -> int:
    tier, terms, hits = MemoryTier(config, capacity), Terms("r"), 0
    for key in trace:
        entry = tier.get(str(key))
        if entry is None:
            tier.put(Entry(str(key), key, 1, math.inf, terms))
        else:
            entry.hits += 1
            hits += 1
    return hits


@given(st.lists(st.integers(0, 9), max_size=200), st.integers(1, 6))
def test_without_aging_the_least_read_goes(trace: list[int], capacity: int) -> None:
    tier, terms = MemoryTier(LfuConfig(aging=False), capacity), Terms("r")
    for key in trace:
        entry = tier.get(str(key))
        if entry is not None:
            entry.hits += 1
            continue
        before = {held: e.hits for held in tier.keys() if (e := tier.get(held)) is not None}
        tier.put(Entry(str(key), key, 1, math.inf, terms))
        gone = set(before) - set(tier.keys())
        assert len(gone) == (len(before) == capacity)
        assert all(before[victim] == min(before.values()) for victim in gone)


def test_aging_lets_old_favourites_go() -> None:
    old, new = list(range(100)) * 50, list(range(1000, 1120)) * 20
    trace = old + new
    best = rivals.opt(trace, 100)
    assert replay(LfuConfig(aging=False), trace, 100) <= rivals.lru(old, 100) + 20
    assert replay(LfuConfig(), traces.scanned(trace, 500, 10), 120) >= 0.9 * rivals.opt(old, 100)
    recent = list(range(1000, 1080)) * 20
    aged = replay(LfuConfig(), old + recent, 100)
    plain = replay(LfuConfig(aging=False), old + recent, 100)
    assert aged > plain + 1000
    assert best >= plain


def test_a_call_ranks_a_bounded_number_of_entries_anew() -> None:
    policy, terms = LfuConfig().build(10_000), Terms("r")
    for number in range(10_000):
        entry = Entry(f"k{number}", number, 1, math.inf, terms)
        policy.entries[entry.key] = entry
        policy.added(entry)
        entry.hits += 1
    assert len(policy.victims(1, 0)) == 1
    assert sum(entry.place != 1 for entry in policy.entries.values()) <= 1001
