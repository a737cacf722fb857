"""Conformance of eviction policies."""

from __future__ import annotations

import math
import random
import sqlite3
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tiercache.contracts import Policy, PolicyConfig
from tiercache.entry import Entry, Terms

KEYS = st.sampled_from([f"k{number}" for number in range(12)])
HEALTH = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
RUN = settings(max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=HEALTH)


class PolicySuite:
    """What holds for every policy. Inherit from it, and give a fixture `policy`: a configuration."""

    @pytest.mark.parametrize("capacity", [1, 2, 3, 7, 100])
    def test_books_agree_with_the_entries(self, policy: PolicyConfig, capacity: int) -> None:
        class Machine(_PolicyMachine):
            def __init__(self) -> None:
                super().__init__(policy, capacity)

        run_state_machine_as_test(Machine, settings=RUN)

    def test_a_new_policy_is_empty(self, policy: PolicyConfig) -> None:
        built = policy.build(10)
        assert built.entries == {}
        assert built.victims(1, 0) == []
        assert built.victims(0, 1) == []

    def test_two_policies_share_nothing(self, policy: PolicyConfig) -> None:
        one, other = policy.build(4), policy.build(4)
        _insert(one, Entry("k", 1, 1, math.inf, Terms("r")))
        assert not other.entries
        assert other.victims(1, 0) == []

    def test_everything_can_be_asked_for_at_once(self, policy: PolicyConfig) -> None:
        built = policy.build(1000)
        terms = Terms("r")
        for number in range(1000):
            entry = Entry(f"k{number}", number, number, 100.0 + number % 7, terms, weight=number % 5)
            _insert(built, entry)
            entry.hits += number % 3
        gone = built.victims(1000, 0)
        assert {entry.key for entry in gone} == {f"k{number}" for number in range(1000)}
        assert len(gone) == 1000

    def test_victims_weigh_as_much_as_was_asked(self, policy: PolicyConfig) -> None:
        built = policy.build(100)
        terms = Terms("r")
        for number in range(100):
            _insert(built, Entry(f"k{number}", number, number, 100.0, terms, weight=10))
        gone = built.victims(0, 95)
        assert sum(entry.weight for entry in gone) >= 95
        assert len(gone) <= 20

    def test_memory_of_removed_entries_is_given_back(self, policy: PolicyConfig) -> None:
        built = policy.build(100)
        terms = Terms("r")
        values = []
        for number in range(5000):
            entry = Entry(f"k{number}", _Value(), number, 100.0 + number % 50, terms)
            values.append(_weak(entry.value))
            _insert(built, entry)
            if number >= 50:
                old = built.entries[f"k{number - 50}"]
                built.removed(old)
                del built.entries[old.key]
                del old
            del entry
        assert sum(value() is not None for value in values) <= 50 + 200

    def test_order_runs_on_sqlite_and_ends(self, policy: PolicyConfig) -> None:
        order = policy.order
        if order is None:
            pytest.skip("this policy has no order for rows")
        rows = sqlite3.connect(":memory:")
        rows.execute(
            "CREATE TABLE t(key PRIMARY KEY, created INT NOT NULL, last_read INT NOT NULL,"
            " reads INT NOT NULL, expires INT NOT NULL, size INT NOT NULL)"
        )
        by = ", ".join(order.by)
        rows.execute(f"CREATE INDEX i ON t({by}, key)")
        chance = random.Random(5)
        for number in range(300):
            reads = chance.choice([0, 0, 1, 5, 1000])
            row = (f"k{number}", number, number + 1000 * (reads > 0), reads, chance.randrange(10**6), 9)
            rows.execute("INSERT INTO t VALUES (?,?,?,?,?,?)", row)
        plan = rows.execute(f"EXPLAIN QUERY PLAN SELECT key FROM t ORDER BY {by} LIMIT 100").fetchall()
        assert "TEMP B-TREE" not in str(plan)
        now = 10_000
        for _ in range(1000):
            chunk = [key for (key,) in rows.execute(f"SELECT key FROM t ORDER BY {by} LIMIT 100")]
            if not chunk:
                break
            now += 1
            marks = ",".join(f":k{at}" for at in range(len(chunk)))
            named: dict[str, Any] = {f"k{at}": key for at, key in enumerate(chunk)}
            spared = f"NOT ({order.spared})" if order.spared else "1"
            rows.execute(f"DELETE FROM t WHERE key IN ({marks}) AND {spared}", named)
            if order.chance:
                rows.execute(f"UPDATE t SET {order.chance} WHERE key IN ({marks})", {**named, "now": now})
        assert rows.execute("SELECT count(*) FROM t").fetchone() == (0,)
        rows.close()


class _Value:
    __slots__ = ("__weakref__",)


def _weak(value: Any) -> Callable[[], Any]:
    return weakref.ref(value)


def _insert(policy: Policy, entry: Entry) -> None:
    policy.entries[entry.key] = entry
    policy.added(entry)


class _PolicyMachine(RuleBasedStateMachine):
    """Plays the tier for one policy, and keeps books of its own."""

    def __init__(self, config: PolicyConfig, capacity: int) -> None:
        super().__init__()
        self.policy = config.build(capacity)
        self.capacity = capacity
        self.terms = Terms("r")
        self.held: dict[str, Entry] = {}
        self.gone: list[Entry] = []
        self.reads = 0
        self.stamp = 0

    def part_with(self, entries: list[Entry]) -> None:
        assert len({id(entry) for entry in entries}) == len(entries)
        for entry in entries:
            assert self.held.pop(entry.key) is entry
            assert self.policy.entries.pop(entry.key) is entry
            self.terms.hits += entry.hits
            entry.hits = 0
            self.gone.append(entry)

    def evict(self, count: int, weight: int) -> None:
        held = len(self.held)
        total = sum(entry.weight for entry in self.held.values())
        victims = self.policy.victims(count, weight)
        assert len(victims) >= min(count, held)
        assert sum(entry.weight for entry in victims) >= min(weight, total)
        self.part_with(victims)

    @rule(key=KEYS, life=st.one_of(st.floats(0, 100), st.just(math.inf)), weight=st.integers(0, 9))
    def put(self, key: str, life: float, weight: int) -> None:
        self.stamp += 1
        if key in self.held:
            self.held[key].fresh_until = life
            if (renewed := getattr(self.policy, "renewed", None)) is not None:
                renewed(self.held[key])
            return
        if len(self.held) >= self.capacity:
            self.evict(1, 0)
        entry = Entry(key, self.stamp, self.stamp, life, self.terms, weight)
        self.held[key] = entry
        _insert(self.policy, entry)

    @rule(key=KEYS, times=st.integers(1, 5))
    def read(self, key: str, times: int) -> None:
        for _ in range(times):
            if self.policy.touch is not None:
                if key not in self.held:
                    with pytest.raises(KeyError):
                        self.policy.touch(key)
                    return
                self.policy.touch(key)
            if key in self.held:
                self.held[key].hits += 1
                self.reads += 1

    @rule(key=KEYS)
    def remove(self, key: str) -> None:
        if key in self.held:
            self.policy.removed(self.held[key])
            self.part_with([self.held[key]])

    @rule(count=st.integers(0, 5), weight=st.integers(0, 20))
    def make_room(self, count: int, weight: int) -> None:
        self.evict(count, weight)

    @invariant()
    def books_agree(self) -> None:
        assert self.policy.entries == self.held

    @invariant()
    def no_policy_holds_what_is_gone(self) -> None:
        assert all(entry.place == 0 for entry in self.gone)

    @invariant()
    def reads_are_conserved(self) -> None:
        assert sum(entry.hits for entry in self.held.values()) + self.terms.hits == self.reads
        assert all(entry.hits >= 0 for entry in self.held.values())

    def teardown(self) -> None:
        self.evict(len(self.held), 0)
        assert not self.held
        assert self.policy.victims(1, 1) == []
