"""Random invalidations over a real file: what is dead stays dead, what is alive stays there."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from model.invalidations import Folding, Invalidations


@pytest.mark.parametrize("machine", [Invalidations, Folding])
def test_nothing_dead_is_served_and_nothing_alive_is_lost(machine):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
        ),
    )
