from __future__ import annotations

import math

import pytest

from bench import rivals, traces
from tiercache import Entry, Terms
from tiercache_plugins.policies import hybrid
from tiercache_plugins.policies.hybrid import HybridConfig, HybridPolicy
from tiercache_plugins.tiers.memory.tier import MemoryTier


def replay(trace: list[int], capacity: int, *, max_bytes: int | None = None, drop_every: int = 0) -> int:
    tier, terms, hits = MemoryTier(HybridConfig(), capacity, max_bytes), Terms("r"), 0
    for at, key in enumerate(trace):
        entry = tier.get(key)
        if entry is None:
            tier.put(Entry(key, b"", 1, math.inf, terms))
        else:
            entry.hits += 1
            hits += 1
        if drop_every and at % drop_every == 0:
            tier.remove(trace[at // 2])
    assert tier.stats()["hits"] + terms.hits == hits
    return hits


@pytest.mark.parametrize("name", ["zipf_drift", "zipf_scans"])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.25])
def test_it_is_ahead_of_lru_and_near_the_optimum(name: str, share: float) -> None:
    trace = traces.generated()[name]
    capacity = int(len(set(trace)) * share)
    ours, lru, best = replay(trace, capacity), rivals.lru(trace, capacity), rivals.opt(trace, capacity)
    assert ours > 1.02 * lru
    assert ours > 0.7 * best


def test_a_scan_does_not_flush_what_is_read_again_and_again() -> None:
    favourites = list(range(80)) * 10
    scan = list(range(10_000, 12_000))
    trace = favourites + scan + list(range(80))
    after = replay(trace, 100) - replay(favourites + scan, 100)
    assert after >= 70
    assert rivals.lru(trace, 100) - rivals.lru(favourites + scan, 100) == 0


def test_a_loop_longer_than_the_cache_still_hits() -> None:
    trace = traces.loop(20_000, 1000)
    assert rivals.lru(trace, 500) == 0
    assert replay(trace, 500) > 0.9 * rivals.opt(trace, 500)


def test_pure_recency_is_as_good_as_lru() -> None:
    trace = [key for at in range(20_000) for key in (at, at - 4)]
    assert replay(trace, 100) >= 0.99 * rivals.lru(trace, 100)


def test_it_tunes_itself_alike_where_bytes_are_the_bound() -> None:
    trace = traces.generated()["zipf_drift"]
    by_count = replay(trace, 500)
    entry = 28 + 33
    by_bytes = replay(trace, 60_000, max_bytes=500 * entry)
    assert by_bytes == pytest.approx(by_count, rel=0.05)


def test_deletions_do_not_spoil_it() -> None:
    trace = traces.generated()["zipf_scans"]
    assert replay(trace, 500, drop_every=10) > 1.02 * rivals.lru(trace, 500)


def test_a_call_is_bounded_where_everything_was_read() -> None:
    policy, terms = HybridPolicy(10_000), Terms("r")
    for number in range(10_000):
        entry = Entry(f"k{number}", number, 1, math.inf, terms)
        policy.entries[entry.key] = entry
        policy.added(entry)
    for entry in policy.entries.values():
        entry.hits = 9
    victims = policy.victims(1, 0)
    spared = sum(entry.hits < 9 for entry in policy.entries.values() if entry not in victims)
    assert 1 <= len(victims) <= 39
    assert spared <= len(victims) * (hybrid.SCANS + 5)


def test_ghosts_are_forgotten_before_their_numbers_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hybrid, "LAST_STAMP", 400)
    trace = traces.generated()["zipf_scans"]
    assert replay(trace, 300) > 0.9 * rivals.lru(trace, 300)
