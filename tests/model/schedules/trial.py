"""One schedule, played and judged."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from model.schedules.acts import script
from model.schedules.log import Log
from model.schedules.setting import Setting
from model.schedules.world import play

COMMAND = "PYTHONPATH=tests .venv/bin/python -m model.schedules"


@dataclass(frozen=True, slots=True)
class Trial:
    """What a schedule was, what happened, and what was wrong with it."""

    setting: Setting
    log: Log
    findings: list[str]

    @property
    def digest(self) -> str:
        """Of everything that happened: equal where two runs were the same."""
        return sha256("\n".join(line for _, _, line in self.log.lines).encode()).hexdigest()

    def told(self) -> str:
        """Return the schedule for a reader, with what was wrong at its end."""
        lines = [str(self.setting)]
        lines += [f"{place:6} {ticks / 1_000_000:13.6f}  {line}" for place, ticks, line in self.log.lines]
        return "\n".join([*lines, *(f"WRONG: {finding}" for finding in self.findings)])


def run(seed: int) -> Trial:
    """Play and judge the schedule of *seed*."""
    from model.schedules.checks import judged

    setting = Setting.draw(seed)
    world = play(setting, script)
    return Trial(setting, world.log, [*world.log.wrong, *judged(setting, world.log)])


def failure(trial: Trial) -> str:
    """Return what an assertion says of *trial*: the integer, how to play it again, what was wrong."""
    return "\n".join([f"schedule {trial.setting.seed}: {COMMAND} {trial.setting.seed}", *trial.findings])
