"""Conformance of near tiers."""

from __future__ import annotations

import math
import random
import sys
import threading
from collections.abc import Callable
from time import monotonic, sleep

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tiercache.contracts import Fills, NearTier
from tiercache.entry import Entry, Terms
from tiercache.testing.policies.machine import BuildNear, NearMachine, finish, look
from tiercache.testing.policies.policy import RUN


class NearTierSuite:
    """What holds for every near tier.

    Inherit from it, and give a fixture `near`: a function of `max_entries` and `max_bytes` (None: no bound)
    that returns a new tier. A tier that can't be bounded by bytes skips there. One that takes many entries at
    once (`tiercache.Fills`) is tried with many, too.
    """

    @pytest.mark.parametrize("capacity", [1, 3, 1000])
    def test_it_behaves_as_the_model(self, near: BuildNear, capacity: int) -> None:
        _run(near, capacity, None, RUN)

    def test_large_tiers_behave_as_the_model(self, near: BuildNear) -> None:
        _run(near, 200_000, None, settings(RUN, max_examples=15))

    def test_bytes_are_bounded(self, near: BuildNear) -> None:
        _run(near, 8, 1500, RUN)

    def test_entries_are_bounded_exactly(self, near: BuildNear) -> None:
        tier, terms = near(100, None), Terms("r")
        for number in range(1000):
            tier.put(Entry(f"k{number}", number, number, math.inf, terms))
            assert tier.stats()["entries"] == len(list(tier.keys())) <= 100
        assert tier.stats()["evicted"] == 1000 - tier.stats()["entries"]
        assert tier.get("k999") is not None

    @pytest.mark.parametrize("capacity", [100, 20_000])
    @pytest.mark.parametrize("count", [1, 10, 50, 300])
    def test_many_entries_at_once_are_held_and_bounded_exactly(
        self, near: BuildNear, capacity: int, count: int
    ) -> None:
        tier, terms = near(capacity, None), Terms("r")
        if not isinstance(tier, Fills):
            pytest.skip("takes entries one by one")
        put = 0
        while put < 2 * capacity:
            entries = [Entry(f"k{put + at}", at, 1, math.inf, terms) for at in range(count)]
            tier.put_many(entries)
            put += count
            # Not after each, as the tier looks at every entry for its hits.
            if put % (capacity // 100) < count:
                stats = tier.stats()
                assert stats["entries"] <= capacity
                assert stats["entries"] + stats["evicted"] == put
            kept = [tier.get(entry.key) is entry for entry in entries]
            assert all(kept) or count * 8 > capacity
            assert [entry.fresh_until == math.inf for entry in entries] == kept
        assert tier.stats()["entries"] == len(list(tier.keys()))

    def test_many_entries_at_once_renew_what_stands_and_leave_what_is_newer(self, near: BuildNear) -> None:
        tier, terms = near(100, None), Terms("r")
        if not isinstance(tier, Fills):
            pytest.skip("takes entries one by one")
        older = tier.put(Entry("older", "a", 1, 50.0, terms), ("t",))
        newer = tier.put(Entry("newer", "b", 3, 50.0, terms), ("t",))
        once, again = Entry("twice", "c", 2, 60.0, terms), Entry("twice", "d", 3, 70.0, terms)
        tier.put_many(
            [Entry("older", "A", 2, 60.0, terms), Entry("newer", "B", 2, 60.0, terms), once, once, again]
        )
        assert (older.value, older.fresh_until, tier.get("older")) == ("A", 60.0, older)
        assert (newer.value, newer.fresh_until, tier.get("newer")) == ("b", 50.0, newer)
        assert (once.value, once.fresh_until, tier.get("twice")) == ("d", 70.0, once)
        assert list(tier.tagged("t")) == ["newer"]
        assert tier.stats()["entries"] == 3

    def test_what_is_heavier_than_the_bound_is_not_stored(self, near: BuildNear) -> None:
        tier, terms = near(100, 10_000), Terms("r")
        small = tier.put(Entry("k", b"", 1, math.inf, terms))
        others = tier.put(Entry("other", b"", 1, math.inf, terms))
        heavy = Entry("k", bytes(20_000), 2, 50.0, terms)
        assert tier.put(heavy) is heavy
        assert heavy.fresh_until == 50.0
        assert tier.get("k") is None
        assert small.fresh_until == -math.inf
        assert tier.get("other") is others

    def test_a_value_that_grows_pushes_others_out(self, near: BuildNear) -> None:
        tier, terms = near(100, 10_000), Terms("r")
        for number in range(8):
            tier.put(Entry(f"k{number}", bytes(900), 1, math.inf, terms))
        tier.put(Entry("k3", bytes(8000), 2, math.inf, terms))
        entry = tier.get("k3")
        assert entry is not None
        assert len(entry.value) == 8000
        assert tier.stats()["bytes"] <= 10_000

    def test_keys_tolerates_changes_and_misses_nothing_that_stays(self, near: BuildNear) -> None:
        tier, terms = near(200_000, None), Terms("r")
        for number in range(2000):
            tier.put(Entry(f"k{number}", number, 1, math.inf, terms), ("odd",) if number % 2 else ())
        seen = set()
        for number, key in enumerate(tier.keys()):
            seen.add(key)
            tier.remove(f"k{number % 1000}")
            tier.put(Entry(f"new{number}", 0, 1, math.inf, terms))
        assert seen >= {f"k{number}" for number in range(1000, 2000)}
        for key in tier.tagged("odd"):
            assert tier.remove(key)
        assert not list(tier.tagged("odd"))

    def test_work_comes_in_slices_and_ends(self, near: BuildNear) -> None:
        tier, terms = near(20_000, None), Terms("r", stale=5.0)
        for number in range(20_000):
            tier.put(Entry(f"k{number}", number, 1, 10.0 if number % 4 else math.inf, terms), ("t",))
        assert tier.stats()["entries"] == 20_000
        finish(tier, 14.0)
        assert tier.stats()["entries"] == 20_000
        slices = finish(tier, 1000.0)
        assert slices > 1
        assert tier.stats()["entries"] == 5000
        assert tier.stats()["expired"] == 15_000
        assert sorted(tier.tagged("t")) == sorted(tier.keys())

    def test_clearing_drops_entries_later_and_hits_are_kept(self, near: BuildNear) -> None:
        tier, terms = near(5000, None), Terms("r")
        held = [tier.put(Entry(f"k{number}", number, 1, math.inf, terms), ("t",)) for number in range(5000)]
        for entry in held:
            entry.hits += 3
        tier.clear()
        assert tier.get("k1") is None
        assert not list(tier.keys())
        assert not list(tier.tagged("t"))
        assert tier.stats()["entries"] == tier.stats()["bytes"] == 0
        assert tier.stats()["hits"] + terms.hits == 15_000
        fresh = tier.put(Entry("k1", "new", 1, math.inf, terms))
        assert finish(tier, 0.0) > 1
        assert terms.hits == 15_000
        assert all(entry.fresh_until == -math.inf for entry in held)
        assert tier.get("k1") is fresh
        assert fresh.fresh_until == math.inf

    def test_threads_never_see_a_wrong_value_and_lose_no_hit(self, near: BuildNear) -> None:
        for capacity in (50, 100_000):
            _hammer(near(capacity, None), 0.5)

    def test_threads_agree_on_bytes(self, near: BuildNear) -> None:
        tier = near(1000, 20_000)
        _hammer(tier, 0.5)
        assert tier.stats()["bytes"] <= 20_000
        for key in list(tier.keys()):
            tier.remove(key)
        assert tier.stats()["bytes"] == 0


def _run(near: BuildNear, capacity: int, max_bytes: int | None, run: settings) -> None:
    class Machine(NearMachine):
        def __init__(self) -> None:
            super().__init__(near, capacity, max_bytes)

    run_state_machine_as_test(Machine, settings=run)


def _hammer(tier: NearTier, seconds: float) -> None:
    """Read and write *tier* from eight threads; check values, hits and tags."""
    terms = (Terms("one"), Terms("two"))
    keys = [f"k{number}" for number in range(200)]
    reads: list[int] = []
    failures: list[BaseException] = []
    stop = threading.Event()
    stamps = iter(range(1, 2**60))

    def read(seed: int) -> None:
        chance = random.Random(seed)
        count = 0
        while not stop.is_set():
            key = chance.choice(keys)
            entry = look(tier, key)
            try:
                if tier.touch is not None:
                    tier.touch(key)
            except KeyError:
                continue
            # No call between the comparison and the count, as in the kernel.
            if entry is not None and entry.fresh_until > 1.0:
                entry.hits += 1
                count += 1
                if entry.value[0] != key:
                    raise AssertionError(f"{key} gave {entry.value}")
        reads.append(count)

    def write(seed: int) -> None:
        chance = random.Random(seed)
        while not stop.is_set():
            key = chance.choice(keys)
            match chance.randrange(12):
                case 0:
                    tier.remove(key)
                case 1:
                    for tagged in tier.tagged("t"):
                        tier.remove(tagged)
                        break
                case 2:
                    tier.work(2.0, 0.0002)
                case 3:
                    tier.stats()
                    tier.tags(key)
                    list(tier.keys())
                case _:
                    life = chance.choice([1.5, math.inf, 50.0])
                    entry = Entry(key, (key, "x" * chance.randrange(50)), next(stamps), life, terms[seed % 2])
                    if chance.random() < 0.3 and isinstance(tier, Fills):
                        other = chance.choice(keys)
                        tier.put_many([entry, Entry(other, (other, ""), next(stamps), life, terms[seed % 2])])
                    else:
                        tier.put(entry, ("t",) if chance.random() < 0.3 else ())

    def run(body: Callable[[int], None], seed: int) -> None:
        try:
            body(seed)
        except BaseException as failure:  # noqa: BLE001 - handed to the test's own thread
            failures.append(failure)
            stop.set()

    threads = [threading.Thread(target=run, args=(body, seed)) for seed in range(4) for body in (read, write)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        until = monotonic() + seconds
        while monotonic() < until and not failures:
            sleep(0.01)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    if failures:
        raise failures[0]
    assert sum(reads) > 0
    assert sum(reads) == tier.stats()["hits"] + terms[0].hits + terms[1].hits
    held = list(tier.keys())
    assert tier.stats()["entries"] == len(held)
    assert {key for key in held if "t" in tier.tags(key)} == set(tier.tagged("t"))
