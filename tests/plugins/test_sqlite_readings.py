from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tiercache_plugins.tiers.sqlite import readings
from tiercache_plugins.tiers.sqlite.readings import Readings

ROWS = st.integers(0, 300) | st.integers(-(2**63), 2**63 - 1)


class Beside(RuleBasedStateMachine):
    """Readings beside a dictionary of rows."""

    def __init__(self):
        super().__init__()
        self.readings = Readings()
        self.held = {}
        self.now = 0

    def gone(self, read):
        for row, times, at in read:
            assert self.held.pop(row) == (times, at)

    @rule(rows=st.lists(ROWS, max_size=20), later=st.integers(0, 2**40))
    def note(self, rows, later):
        self.now += later
        self.readings.note(rows, self.now)
        for row in rows:
            self.held[row] = self.held.get(row, (0, 0))[0] + 1, self.now

    @rule(rows=st.lists(ROWS, max_size=20, unique=True))
    def of(self, rows):
        known = {row for row in rows if row in self.held}
        read = self.readings.of(rows)
        assert {reading.row for reading in read} == known
        self.gone(read)

    @rule(most=st.integers(1, 100))
    def take(self, most):
        waiting = len(self.held)
        read = self.readings.take(most)
        assert [reading.row for reading in read] == sorted(reading.row for reading in read)
        assert len(read) < most + 64
        assert read or not waiting
        self.gone(read)

    @invariant()
    def counts(self):
        assert len(self.readings) == len(self.held)


TestBeside = Beside.TestCase
TestBeside.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_everything_is_taken_in_turns_though_what_was_taken_is_read_again():
    noted = Readings()
    noted.note(range(1000), 1)
    taken = set()
    for _ in range(0, 1000, 64):
        taken |= {reading.row for reading in noted.take(64)}
        noted.note(range(64), 2)
    assert taken == set(range(1000))


def test_what_finds_no_room_is_left_out_and_there_is_room_again_after_it_was_taken(monkeypatch):
    monkeypatch.setattr(readings, "_SPANS", 4)
    noted = Readings()
    noted.note(range(0, 640, 64), 1)
    assert noted.full
    assert [reading.row for reading in noted.take(100)] == [0, 64, 128, 192]
    assert not noted.full
    noted.note([640], 2)
    assert noted.take(100) == [(640, 1, 2)]


def test_a_row_that_is_read_without_end_is_counted_up_to_a_bound():
    noted = Readings()
    for _ in range(5000):
        noted.note([7], 9)
    assert noted.take(1) == [(7, 4095, 9)]
