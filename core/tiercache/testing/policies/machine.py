"""A model of near tiers, that real ones are compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tiercache.contracts import Fills, NearTier
from tiercache.entry import Entry, Terms
from tiercache.testing.policies.policy import KEYS

BuildNear = Callable[[int, int | None], NearTier]
"""Returns a new tier of so many entries and, where that is bounded, bytes."""


def finish(tier: NearTier, now: float) -> int:
    """Work until nothing is left; return the number of slices."""
    for slices in range(1, 100_000):
        if not tier.work(now, 0.0001):
            return slices
    raise AssertionError("work has no end")


def look(tier: NearTier, key: str) -> Entry | None:
    """Look *key* up as the kernel does."""
    entries = tier.entries
    if tier.segments is not None:
        entries = tier.segments[hash(key) & (len(tier.segments) - 1)]
    if entries is None:
        return tier.get(key)
    return entries.get(key)


class NearMachine(RuleBasedStateMachine):
    """Compares a tier with a dictionary that knows what was put last, not what was evicted."""

    def __init__(self, near: BuildNear, capacity: int, max_bytes: int | None = None) -> None:
        super().__init__()
        self.tier = near(capacity, max_bytes)
        self.capacity = capacity
        self.max_bytes = max_bytes
        self.terms = (Terms("plain"), Terms("stale", stale=3.0))
        self.put_last: dict[str, tuple[Any, int, float, tuple[str, ...], Terms]] = {}
        self.dropped: list[Entry] = []
        self.reads = 0
        self.now = 100.0

    @rule(
        key=KEYS,
        stamp=st.integers(1, 6),
        life=st.one_of(st.floats(0.5, 20), st.just(math.inf)),
        tags=st.lists(st.sampled_from("abc"), unique=True, max_size=2),
        terms=st.integers(0, 1),
        size=st.integers(0, 600),
    )
    def put(self, key: str, stamp: int, life: float, tags: list[str], terms: int, size: int) -> None:
        before = self.tier.get(key)
        value = (bytes(size),)
        entry = Entry(key, value, stamp, self.now + life, self.terms[terms])
        stood = before.created_at if before is not None else 0
        standing = self.tier.put(entry, tuple(tags))
        if stamp >= stood:
            self.put_last[key] = (value, stamp, self.now + life, tuple(tags), self.terms[terms])
            assert standing.value is value
        else:
            assert standing is before
        if self.tier.get(key) is None:
            assert self.max_bytes is not None
        else:
            assert self.tier.get(key) is standing
        if before is not None and before is not self.tier.get(key):
            self.dropped.append(before)

    @precondition(lambda self: isinstance(self.tier, Fills))
    @rule(
        puts=st.dictionaries(KEYS, st.tuples(st.integers(1, 6), st.integers(0, 600)), max_size=6),
        life=st.one_of(st.floats(0.5, 20), st.just(math.inf)),
        terms=st.integers(0, 1),
    )
    def put_many(self, puts: dict[str, tuple[int, int]], life: float, terms: int) -> None:
        before = {key: self.tier.get(key) for key in puts}
        stood = {key: entry.created_at for key, entry in before.items() if entry is not None}
        entries = [
            Entry(key, (bytes(size),), stamp, self.now + life, self.terms[terms])
            for key, (stamp, size) in puts.items()
        ]
        brought = {entry.key: entry.value for entry in entries}
        assert isinstance(self.tier, Fills)
        self.tier.put_many(entries)
        for key, (stamp, _) in puts.items():
            standing, earlier = self.tier.get(key), before[key]
            if earlier is not None and earlier is not standing:
                self.dropped.append(earlier)
            if standing is None:
                # One of the others took its place.
                continue
            if standing.value is brought[key]:
                self.put_last[key] = (brought[key], stamp, self.now + life, (), self.terms[terms])
            else:
                assert standing is earlier
                assert stamp < stood[key]

    @rule(key=KEYS)
    def read(self, key: str) -> None:
        entry = look(self.tier, key)
        assert entry is self.tier.get(key)
        if entry is not None and self.now < entry.fresh_until:
            if self.tier.touch is not None:
                self.tier.touch(key)
            entry.hits += 1
            self.reads += 1

    @rule(key=KEYS)
    def remove(self, key: str) -> None:
        entry = self.tier.get(key)
        assert self.tier.remove(key) is (entry is not None)
        assert self.tier.get(key) is None
        if entry is not None:
            self.dropped.append(entry)

    @rule(seconds=st.floats(0.5, 10))
    def sweep(self, seconds: float) -> None:
        self.now += seconds
        held = [self.tier.get(key) for key in list(self.tier.keys())]
        dead = [e for e in held if e is not None and e.fresh_until + e.terms.stale <= self.now]
        finish(self.tier, self.now)
        assert len(list(self.tier.keys())) == len(held) - len(dead)
        self.dropped += dead

    @precondition(lambda self: self.put_last)
    @rule()
    def clear(self) -> None:
        self.tier.clear()
        assert not list(self.tier.keys())

    @invariant()
    def what_is_held_is_what_was_put_last(self) -> None:
        held = {key: self.tier.get(key) for key in list(self.tier.keys())}
        by_tag: dict[str, set[str]] = {tag: set() for tag in "abc"}
        for key, entry in held.items():
            assert entry is not None
            value, stamp, fresh_until, tags, terms = self.put_last[key]
            assert entry.value is value
            assert (entry.key, entry.created_at, entry.fresh_until) == (key, stamp, fresh_until)
            assert entry.terms is terms
            assert tuple(self.tier.tags(key)) == tags
            for tag in tags:
                by_tag[tag].add(key)
        for tag, keys in by_tag.items():
            assert set(self.tier.tagged(tag)) == keys
        stats = self.tier.stats()
        assert stats["entries"] == len(held) <= self.capacity
        assert stats["bytes"] <= (self.max_bytes or 0)
        assert stats["hits"] + sum(terms.hits for terms in self.terms) == self.reads

    @invariant()
    def whoever_holds_a_dropped_entry_sees_a_miss(self) -> None:
        assert all(entry.fresh_until == -math.inf for entry in self.dropped)
        assert all(
            not self.tier.tags(entry.key) for entry in self.dropped if self.tier.get(entry.key) is None
        )

    def teardown(self) -> None:
        for key in list(self.tier.keys()):
            assert self.tier.remove(key)
        assert self.tier.stats()["entries"] == self.tier.stats()["bytes"] == 0
        finish(self.tier, self.now)
        assert sum(terms.hits for terms in self.terms) == self.reads
