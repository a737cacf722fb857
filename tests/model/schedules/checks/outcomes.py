"""How acts may end. A cache never makes an application fail that would work without it.

- Everything ends. (`wrong` of the log holds what the loop and the logs say besides.)
- CancelledError is for who was cancelled: no other caller, and no load, is disturbed.
- A tier that fails is nobody's exception, but of those who must not be guessed for: TierUnavailable.
- A loader's error is its callers', and nobody else's; LoadTimeout only where the route has a `hard_timeout`.
- After `close` has begun CacheClosed is the answer, and nothing else is new.
- No call of get waits longer than a call of each far tier may take, twice: in flight, and behind one.
"""

from __future__ import annotations

from collections.abc import Iterator

from model.schedules.log import OPEN, Act, Log
from model.schedules.setting import OPTIONS, Setting
from model.schedules.storage import DEADLINE
from model.schedules.world import SourceDown
from tiercache import CacheClosed, LoadCancelled, LoadTimeout, TierUnavailable
from tiercache.engine.deadlines import GRACE

GUESSED = {"add", "once", "touch", "increment"}
"""What raises TierUnavailable rather than guess."""
LOADS = {"get_or_set", "get_or_set_many", "refresh"}
SLACK = 0.1
"""Seconds that the steps of the loop itself may add up to."""


def outcomes(setting: Setting, log: Log) -> Iterator[str]:
    patience = "hard_timeout" in OPTIONS[setting.options]
    for act in log.acts:
        if act.end == OPEN:
            yield f"{act.told()}: never ended"
        elif act.outcome == "cancelled" and not act.asked:
            yield f"{act.told()}: cancelled, and nobody asked for it"
        elif act.outcome == "error" and not _allowed(act, log, patience=patience):
            yield f"{act.told()}: {act.error!r} must not reach a caller"
        elif act.kind in {"get", "get_many"}:
            most = 2 * len(setting.routes[act.route or "all"]) * (DEADLINE + GRACE) + SLACK
            if (took := (act.ended - act.began) / 1_000_000) > most:
                yield f"{act.told()}: took {took} s, at most {most} s can be told from the deadlines"
        if act.outcome == "ok" and act.kind in {"get", "get_or_set", "refresh"} and act.result is ...:
            yield f"{act.told()}: the value of a failed load"


def _allowed(act: Act, log: Log, *, patience: bool) -> bool:
    error = act.error
    if isinstance(error, CacheClosed):
        return log.closings.get(act.process, OPEN) < act.end
    if isinstance(error, TierUnavailable):
        return act.kind in GUESSED
    if act.kind not in LOADS:
        return False
    loads = [load for load in log.loads if load.key in act.keys and load.act.process == act.process]
    if isinstance(error, SourceDown):
        failed = any(load.outcome == "error" for load in loads)
        # Or it was interrupted when the cache was closed.
        return failed or log.closings.get(act.process, OPEN) < act.end
    if isinstance(error, LoadTimeout):
        return patience
    if isinstance(error, LoadCancelled):
        # From inside: the loader raised it, and nobody had asked for it. Or the cache was closed.
        closing = log.closings.get(act.process, OPEN)
        return closing < act.end or any(load.own_doing for load in loads)
    return False
