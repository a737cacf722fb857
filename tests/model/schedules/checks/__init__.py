"""What is judged when a schedule is over: pure functions of its log, one module a promise."""

from __future__ import annotations

from model.schedules.checks.counting import counting
from model.schedules.checks.loading import loading
from model.schedules.checks.outcomes import outcomes
from model.schedules.checks.staleness import staleness
from model.schedules.log import Log
from model.schedules.setting import Setting

__all__ = ["judged"]


def judged(setting: Setting, log: Log) -> list[str]:
    """Return what was wrong."""
    return [
        *outcomes(setting, log),
        *staleness(setting, log),
        *loading(setting, log),
        *counting(setting, log),
    ]
