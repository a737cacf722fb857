"""Lives that reads lengthen, beside a dictionary: see `model.slides`."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from model.slides import Sliding
from servers import Server


def run(far, examples, steps=25, *, shrink=False):
    class Machine(Sliding):
        pass

    Machine.far = far
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            print_blob=True,
            phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
        ),
    )


def test_what_is_read_in_memory_lives_on_until_it_ends():
    run(None, examples=30)


def test_what_is_read_on_disk_lives_on_until_it_ends(tmp_path):
    run({"type": "sqlite", "path": str(tmp_path / "cache.db")}, examples=15)


def test_what_is_read_on_a_server_lives_on_until_it_ends(valkey_server: Server):
    run({"type": "redis", "url": valkey_server.url, "timeout": "60s", "deadline": "60s"}, examples=15)


@pytest.mark.slow
def test_what_is_read_lives_on_until_it_ends_for_long(tmp_path, valkey_server: Server):
    run(None, examples=400, shrink=True)
    run({"type": "sqlite", "path": str(tmp_path / "cache.db")}, examples=100, shrink=True)
    run(
        {"type": "redis", "url": valkey_server.url, "timeout": "60s", "deadline": "60s"},
        examples=100,
        shrink=True,
    )
