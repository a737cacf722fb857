"""Whole caches under schedules that repeat themselves: one integer says who runs when, what fails, and what
is asked for. `python -m model.schedules 123456`, with `tests` on the path, runs one again and tells it.
"""

from __future__ import annotations

from model.schedules.trial import Trial, failure, run

__all__ = ["Trial", "failure", "run"]
