"""Whole caches under seeded schedules: `model.schedules.checks` says what is promised."""

from __future__ import annotations

import gc

import pytest

from model.schedules import failure, run
from model.schedules.mutations import MUTATIONS, SEEN

SHORT, LONG = 1_000, 10_000
BLOCK = 250
ENOUGH = 4_000
"""Schedules among which each mutation shows; most need fewer than a hundred, one of the bus thousands."""


def passed(first: int, count: int) -> None:
    for seed in range(first, first + count):
        trial = run(seed)
        assert not trial.findings, failure(trial)
    # What one schedule leaves, the next one freezes before it is collected.
    gc.collect()


@pytest.mark.parametrize("first", range(0, SHORT, BLOCK))
def test_promises_hold_whoever_runs_when(first):
    passed(first, BLOCK)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(SHORT, SHORT + LONG, BLOCK))
def test_promises_hold_in_ten_thousand_more_schedules(first):
    passed(first, BLOCK)


def test_a_schedule_repeats_itself():
    for seed in range(40):
        first, second = run(seed), run(seed)
        assert first.digest == second.digest, failure(first)


def test_a_failure_names_the_integer_and_the_command_that_play_it_again():
    trial = run(7)
    trial.findings.append("a finding")
    assert failure(trial).startswith("schedule 7: PYTHONPATH=tests .venv/bin/python -m model.schedules 7")
    assert trial.told().endswith("WRONG: a finding")


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_engine_is_found(name):
    with MUTATIONS[name]():
        assert any(run(seed).findings for seed in (SEEN.get(name, 0), *range(ENOUGH)))
