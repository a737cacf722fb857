"""Loads: one at a time for a key, a route and a process, and none where a value stands.

- A second loader runs beside a first one only where something let go of the first: a write or an invalidation
  that concerns the key, `refresh`, `expire`, its last caller leaving, or the patience of a `hard_timeout`.
- A loader is cancelled only where all its callers were, or the cache is being closed.
- Where a load's value was kept in a near tier, the source isn't asked again while it is fresh.
"""

from __future__ import annotations

from collections.abc import Iterator

from model.schedules.log import OPEN, Act, Loading, Log
from model.schedules.setting import OPTIONS, SHAPES, Setting
from model.schedules.storage import DEADLINE
from tiercache.engine.deadlines import GRACE
from tiercache.keys import glob, literal_prefix
from tiercache.units import seconds

LEASE = 2_000_000
"""Microseconds after which a process knows what others marked, in good weather."""
LATE = 4_000_000
"""Microseconds after which every message of the bus has come that will."""
CHANGES = {
    "set", "set_many", "add", "touch", "expire", "refresh", "delete", "delete_many", "tags", "prefix",
    "match", "clear",
}  # fmt: skip


def concerns(act: Act, key: str, tags: tuple[str, ...] | None) -> bool:
    """Whether *act* changes or drops *key* with *tags*; None for whatever tags it may have."""
    match act.kind:
        case "clear":
            return True
        case "tags":
            return tags is None or not set(tags).isdisjoint(act.tags)
        case "prefix":
            return key.startswith(act.pattern)
        case "match":
            # Where a store can't be listed, all that begins as the matches do is dropped.
            covered = act.result is None and key.startswith(literal_prefix(act.pattern))
            return covered or glob(act.pattern).fullmatch(key) is not None
    return key in act.keys


def loading(setting: Setting, log: Log) -> Iterator[str]:
    changes = [act for act in log.acts if act.kind in CHANGES]
    groups: dict[tuple[str, str, str], list[Loading]] = {}
    for load in log.loads:
        groups.setdefault((load.act.process, load.act.route or "all", load.key), []).append(load)
    for (process, route, key), loads in groups.items():
        own = [act for act in changes if act.process == process]
        opened = [call.begin for call in log.calls if call.process == process and call.what == "open"]
        near = SHAPES[setting.shape][route][0] == "memory" and setting.entries > 2
        for number, second in enumerate(loads):
            if second.act.kind == "refresh":
                continue
            for first in loads[:number]:
                tags = (*first.tags, *first.act.tags)
                since = min(first.act.begin, second.act.begin)
                if any(
                    act.begin < second.begin and _reach(act, log) > since and concerns(act, key, tags)
                    for act in own
                ) or any(since < at < second.begin for at in opened):
                    continue
                if _marked_elsewhere(first, second, log) or _heard(first, second.began, setting, log):
                    continue
                if first.end > second.begin:
                    if _attached(first, second, log):
                        yield f"two loads of {key} at once: for act {first.act.number}, {second.act.number}"
                elif near and _needless(first, second, setting) and not _newer(first, second, log):
                    yield f"act {second.act.number} loaded {key}, which act {first.act.number} had brought"
        for load in loads:
            left = load.outcome == "cancelled" and not load.own_doing
            if left and _waited(load, load.end, log) and not _heard(load, load.ended, setting, log):
                yield f"the load of {key} for act {load.act.number} was cancelled though somebody waited"


def _reach(act: Act, log: Log) -> int:
    """Return until when a change goes on. Whoever was cancelled has left it to end by itself."""
    if act.outcome != "cancelled":
        return act.end
    # Under way when it left, and waiting behind what was.
    until = act.ended + 2 * (DEADLINE + GRACE) * 1_000_000
    calls = (call for call in log.calls if call.process == act.process and act.begin < call.end)
    return max((call.end for call in calls if call.began <= until), default=act.end)


def _attached(first: Loading, second: Loading, log: Log) -> bool:
    """Whether *first* was still one to join when *second* began."""
    if _waited(first, second.begin, log):
        return True
    # Whoever was given something else meanwhile has left it to the background.
    return first.act.kind == "get_or_set" and first.act.outcome in {"ok", "error"} and not first.act.asked


def _marked_elsewhere(first: Loading, second: Loading, log: Log) -> bool:
    """Whether this process heard meanwhile that another one had marked what the key belongs to.

    Without a bus it asks once a lease, or when a store is back.
    """
    since = min(first.act.began, second.act.began) - 3 * LEASE
    return any(
        act.process != first.act.process
        and act.kind in {"tags", "prefix", "match", "clear"}
        and concerns(act, first.key, (*first.tags, *first.act.tags))
        and act.begin < second.begin
        and act.ended > since
        for act in log.acts
    )


def _heard(load: Loading, until: int, setting: Setting, log: Log) -> bool:
    """Whether the bus may have told of a change of the key since *load* was asked for: that parts it."""
    return setting.bus and any(
        applied.process != load.act.process
        and (applied.key == load.key or applied.what in {"mark", "wipe"})
        and load.act.began - LATE < applied.ticks < until
        for applied in log.applied
    )


def _waited(load: Loading, until: int, log: Log) -> bool:
    """Whether somebody who was not cancelled waited for *load* until then."""
    closing = log.closings.get(load.act.process, OPEN)
    if closing < until:
        return False
    if not 0 < load.act.asked < until and load.act.end > until:
        return True
    left = load.act.asked or load.act.end
    tags = (*load.tags, *load.act.tags)
    for act in log.acts:
        if act.process == load.act.process and act.kind in CHANGES and concerns(act, load.key, tags):
            # Parted: who came after that has not joined.
            if act.end > load.act.begin:
                left = min(left, max(act.begin, load.act.begin))
    return any(
        act.kind == "get_or_set"
        and act.process == load.act.process
        and act.route == load.act.route
        and load.key in act.keys
        and load.begin < act.begin < left
        and act.end > until
        and not 0 < act.asked < until
        for act in log.acts
    )


def _needless(first: Loading, second: Loading, setting: Setting) -> bool:
    """Whether the near tier held what *first* had brought, fresh, when *second* was asked for."""
    options = OPTIONS[setting.options]
    if first.outcome != "ok" or not first.stored or "refresh_ahead" in options:
        return False
    if setting.bus and (setting.badness or setting.outages):
        # The lease may lapse at any time, and what is kept without one ends with it.
        return False
    ttl = first.ttl or first.act.ttl or seconds(options["ttl"])
    if first.value is None and "negative_ttl" in options:
        ttl = seconds(options["negative_ttl"])
    brought = first.act.outcome == "ok" and first.end < first.act.end < second.act.begin
    return brought and second.began < first.ended + int(ttl * 1_000_000)


def _newer(first: Loading, second: Loading, log: Log) -> bool:
    """Whether another process brought something newer: where that was read, *first* was not kept."""
    others = [*log.acts, *(load.act for load in log.loads if load.end > first.begin)]
    return any(
        act.process != first.act.process
        and first.key in act.keys
        and act.kind not in {"get", "get_many"}
        and act.begin < second.begin
        and act.end > first.act.begin
        for act in others
    )
