"""What must not be guessed is exact, where nothing dropped it and whatever the weather is.

- `increment` of one key by many: each answer is there once, and between what must and what can have been
  added. An increment that raised, or was cancelled, may have been added or not: that alone is unknown.
- `add` of one key by many is true once, or not at all where an attempt has an unknown outcome.
"""

from __future__ import annotations

from collections.abc import Iterator

from model.schedules.checks.loading import concerns
from model.schedules.log import Act, Log
from model.schedules.setting import Setting
from tiercache import MISSING


def counting(setting: Setting, log: Log) -> Iterator[str]:
    near = setting.shape == "near"
    lives = {act.process for act in log.acts} if near else {""}
    if log.flushes or any(act.kind in {"clear", "match"} and concerns(act, "n:1", ()) for act in log.acts):
        # Then a counter starts anew, and it is not told when.
        return
    for life in sorted(lives):
        own = [act for act in log.acts if not near or act.process == life]
        if setting.entries > 2 or not near:
            yield from _counted([act for act in own if act.kind == "increment"])
            yield from _added([act for act in own if act.kind == "once"])
    yield from _read(log)


def _counted(acts: list[Act]) -> Iterator[str]:
    answers = [act.result for act in acts if act.outcome == "ok"]
    if len(set(answers)) != len(answers):
        yield f"increments gave one number twice: {sorted(answers)}"
    for act in acts:
        if act.outcome == "ok":
            least = 1 + sum(1 for other in acts if other.outcome == "ok" and other.end < act.begin)
            most = sum(1 for other in acts if other.begin < act.end)
            if not least <= act.result <= most:
                yield f"{act.told()}: {act.result} is not between {least} and {most}"


def _added(acts: list[Act]) -> Iterator[str]:
    won = [act for act in acts if act.outcome == "ok" and act.result]
    unknown = [act for act in acts if act.outcome != "ok"]
    if len(won) > 1:
        yield f"added twice: {[act.told() for act in won]}"
    for act in acts:
        if act.outcome == "ok" and not act.result:
            others = [other for other in (*won, *unknown) if other.begin < act.end]
            if not others:
                yield f"{act.told()}: refused, though nobody had added before"


def _read(log: Log) -> Iterator[str]:
    """What is read of a counter was its sum at some time."""
    most = 0
    for act in log.acts:
        most += act.kind == "increment"
        if act.kind == "get" and act.keys == ("n:1",) and act.outcome == "ok" and act.result is not MISSING:
            if type(act.result) is not int or not 1 <= act.result <= most:
                yield f"{act.told()}: {act.result!r} was never counted"
