"""No read returns what was invalidated before the read began.

For the own process that is strict, whatever the weather: what a `set`, `delete` or true `add` that has
returned replaced or dropped, and from the very call of it what a tag, a prefix or `clear` covers, is never
read again by that process; nor is it loaded, promoted, replayed or served as a stale copy.

For other processes it holds once the change has arrived in every store that they read through, for routes
without a near tier, and for processes that were opened afterwards. (What a tier that was away has not heard
of, no other process can know.) With a bus it holds, whatever becomes of the messages, a lease after the
change, markers too, has arrived in the shared store, for every route that has it; stale copies apart, which a
route that has them serves where nothing better can be had.

A value may be read all the same, and nothing else may, where

- it is not older: it was set, or its load began, after the change was asked for; of changes by different
  processes, or by one call for many keys, only what had ended before it is older;
- a store took a write of it later than the change, because the line had kept it on its way beyond its
  deadline (no store can tell that from a new write), or
- because what the change had left there was gone, by its own time, by a flush, or under something that the
  store took late, or a glob had found nothing there to leave it for, and another process still had it under
  way: nothing stands that could keep it out;
- the reader, of another process, joined a read or a load that had begun before the change had arrived. A
  load is joined until its writes are over: for two deadlines at most, theirs and of what they are behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from model.schedules.checks.loading import LEASE, concerns
from model.schedules.log import OPEN, Act, Applied, Log
from model.schedules.setting import OPTIONS, Setting
from model.schedules.storage import DEADLINE
from model.schedules.world import EPOCH
from tiercache import MISSING
from tiercache.engine.deadlines import GRACE
from tiercache.units import seconds

READS = {"get", "get_many", "get_or_set", "get_or_set_many", "refresh"}
WRITES = {"set", "set_many", "add", "once"}
DROPS = {"delete", "delete_many"}
MARKS = {"tags", "prefix", "clear"}
STEPS = 2_000
"""Microseconds in which what a store has answered is handed on."""
WRITING = int(2 * (DEADLINE + GRACE) * 1_000_000) + STEPS
"""Microseconds in which the writes of a load are over."""


@dataclass(slots=True)
class Origin:
    """Where a value came from: a call that stored it, or a load."""

    process: str
    key: str
    begin: int
    done: int
    """From where on a change is later than this: of loads and of `set` in its own process, from its begin."""
    own: int
    tags: tuple[str, ...]
    limit: int
    """The time in microseconds until which it may be served, fresh or stale."""
    stale: bool
    """Whether it may serve as a stale copy."""
    again: list[int] = field(default_factory=list)
    """Where stores took it once more, late."""


@dataclass(slots=True)
class Change:
    """An act, for one key that it concerns."""

    act: Act
    created: int
    """What it leaves in stores is as new as this."""
    since: int
    """From where on its own process must not read what is older."""
    marks: bool
    """Whether it is a marker."""
    arrived: dict[str, tuple[int, int]]
    """Where, and when, each store got it."""


def staleness(setting: Setting, log: Log) -> Iterator[str]:
    judge = _Judge(setting, log)
    for act in log.acts:
        if act.kind in READS and act.outcome == "ok":
            for key, value in _results(act):
                if key in setting.keys and value is not MISSING:
                    yield from judge.judged(act, key, value)


def _results(act: Act) -> list[tuple[str, Any]]:
    if act.kind in {"get_many", "get_or_set_many"}:
        return list(act.result.items())
    return [(act.keys[0], act.result)]


class _Judge:
    def __init__(self, setting: Setting, log: Log) -> None:
        self.setting = setting
        self.log = log
        self.origins: dict[tuple[str, Any], list[Origin]] = {}
        self.applied: dict[str, list[Applied]] = {}
        for applied in log.applied:
            self.applied.setdefault(applied.key, []).append(applied)
        for act in log.acts:
            if act.kind in WRITES and (act.outcome != "ok" or act.result is not False):
                for key, value in act.values.items():
                    own = act.begin if act.kind == "set" else act.end
                    done = act.end if act.outcome == "ok" else OPEN
                    self._add(act, key, value, act.begin, done, min(own, done), act.ended, act.tags, act.ttl)
        for load in log.loads:
            tags = load.tags
            self._add(
                load.act, load.key, load.value, load.begin, load.begin, load.begin, load.ended, tags, load.ttl
            )
        for applied in log.applied:
            if applied.late:
                value = applied.value or None
                for origin in self.origins.get((applied.key, value), ()):
                    origin.again.append(applied.at)
        self.changes = {key: list(self._changes(key)) for key in setting.keys}

    def _add(
        self, act: Act, key: str, value: Any, begin: int, done: int, own: int, ended: int,
        tags: tuple[str, ...], ttl: float | None,
    ) -> None:  # fmt: skip
        options = OPTIONS[self.setting.options]
        ttl = ttl or act.ttl or seconds(options["ttl"])
        if value is None and "negative_ttl" in options:
            ttl = max(ttl, seconds(options["negative_ttl"]))
        stale = seconds(options["stale"]) if "stale" in options else 0.0
        limit = ended + int((ttl + max(stale, act.stale or 0.0)) * 1_000_000) + STEPS
        self.origins.setdefault((key, value), []).append(
            Origin(act.process, key, begin, done, own, tags, limit, bool(stale or act.stale))
        )

    def _changes(self, key: str) -> Iterator[Change]:
        for act in self.log.acts:
            if act.kind in WRITES | DROPS | MARKS | {"match"} and concerns(act, key, None):
                if act.kind in {"add", "once"} and not act.result:
                    continue
                marks = act.kind in MARKS or (act.kind == "match" and _is_prefix(act.pattern))
                since = act.begin if marks else act.end if act.outcome == "ok" else OPEN
                if since == OPEN:
                    continue
                created = EPOCH * 1_000_000 + act.began
                yield Change(act, created, since, marks, self._arrived(act, key, created, marks=marks))

    def _arrived(self, act: Act, key: str, created: int, *, marks: bool) -> dict[str, tuple[int, int]]:
        arrived: dict[str, tuple[int, int]] = {}
        names = _marked(act) if marks else [key]
        lacking = {(applied.store, name) for applied in self.log.applied for name in names}
        for applied in (applied for name in names for applied in self.applied.get(name, ())):
            if applied.process == act.process and applied.at > act.begin:
                # What was over when it came has removed what stood all the same.
                stored = applied.stored or applied.what in {"write", "bury"}
                if (stored and applied.created_at >= created) or applied.what == "delete":
                    lacking.discard((applied.store, applied.key))
                    if applied.store not in arrived and not any(
                        store == applied.store for store, _ in lacking
                    ):
                        arrived[applied.store] = applied.at, applied.ticks
        return arrived

    def judged(self, act: Act, key: str, value: Any) -> Iterator[str]:
        origins = self.origins.get((key, value), [])
        if not origins:
            yield f"{act.told()}: {value!r} was never written"
            return
        reasons = []
        for origin in origins:
            reason = self._dead(act, key, value, origin)
            if reason is None:
                return
            reasons.append(reason)
        yield f"{act.told()}: read {value!r}, {reasons[-1]}"

    def _dead(self, read: Act, key: str, value: Any, origin: Origin) -> str | None:
        """Return why *read* must not have brought what *origin* brought, None where it may."""
        if origin.begin > read.end:
            return "before it was there"
        if read.began > self._limit(key, origin):
            return "after its time"
        for change in self.changes[key]:
            act = change.act
            if act.begin >= read.begin or not concerns(act, key, origin.tags):
                continue
            own = act.process == read.process
            older = origin.own if origin.process == act.process else origin.done
            if older >= act.begin or any(at > act.begin for at in origin.again):
                continue
            if own:
                heeded = change.since < read.begin
            elif self._followed(read):
                since = self._leased(change)
                heeded = since < read.began and not origin.stale and not self._under_way(read, key, since)
            else:
                place = self._elsewhere(change, read)
                heeded = place < read.begin and not self._under_way(read, key, self._when(change))
            if not heeded or self._readmitted(change, key, value, origin, read):
                continue
            return f"which {act.told()} had replaced or dropped before"
        return None

    def _limit(self, key: str, origin: Origin) -> int:
        limit = origin.limit
        stale = max(limit - origin.limit, 60_000_000)
        for act in self.log.acts:
            if act.kind == "touch" and act.keys[0] == key and act.end > origin.begin:
                limit = max(limit, act.ended + int((act.ttl or 0.0) * 1_000_000) + stale)
        return limit

    def _elsewhere(self, change: Change, read: Act) -> int:
        """Return from where on a process that did not make *change* must heed it; OPEN for never."""
        if change.marks or not change.arrived:
            return OPEN
        tiers = self.setting.routes[read.route or "all"]
        stores = {self._store(read.process, tier) for tier in tiers if tier != "memory"}
        if not stores or not stores <= change.arrived.keys():
            return OPEN
        since = max(change.act.end, *(change.arrived[store][0] for store in stores))
        if tiers[0] == "memory" and since > self._opened(read.process):
            return OPEN
        return since

    def _followed(self, read: Act) -> bool:
        """Whether a bus keeps the route of *read* coherent."""
        tiers = self.setting.routes[read.route or "all"]
        return self.setting.bus and "shared" in tiers and len(tiers) > 1

    @staticmethod
    def _leased(change: Change) -> int:
        """Return the time from which on other processes must heed *change*: they follow the shared store."""
        if change.act.outcome != "ok" or "shared" not in change.arrived:
            return OPEN
        return max(change.act.ended, change.arrived["shared"][1]) + LEASE

    @staticmethod
    def _when(change: Change) -> int:
        return max(change.act.ended, *(ticks for _, ticks in change.arrived.values()))

    def _store(self, process: str, tier: str) -> str:
        return tier if tier == "shared" else f"{tier} of {self.setting.seats['ABCD'.index(process[0])]}"

    def _opened(self, process: str) -> int:
        return min((call.begin for call in self.log.calls if call.process == process), default=0)

    def _readmitted(self, change: Change, key: str, value: Any, origin: Origin, read: Act) -> bool:
        """Whether a store took the value again because what *change* had left there was gone."""
        if origin.process == change.act.process:
            return False
        for applied in self.applied.get(key, ()):
            arrived = change.arrived.get(applied.store, (OPEN, 0))[0]
            if change.act.kind == "match" and arrived > change.act.end:
                # A glob leaves nothing where it found nothing; what came after its end was not its doing.
                arrived = change.act.begin
            if change.marks or not (change.act.begin < applied.at < read.end):
                continue
            if (applied.value or None) != value or not applied.stored or applied.what == "bury":
                continue
            gone = [at for at, name in self.log.flushes if name == applied.store]
            gone += [other.at for other in self.applied[key] if other.late and other.store == applied.store]
            if any(arrived < at < applied.at for at in gone) or (
                arrived < applied.at and applied.stood is None
            ):
                return True
        return False

    def _under_way(self, read: Act, key: str, since: int) -> bool:
        """Whether *read* may have joined what had begun before *since*."""
        for call in self.log.calls:
            if call.process == read.process and key in call.keys and call.began < since:
                if call.ended + STEPS >= read.began:
                    return True
        return any(
            load.key == key
            and load.act.process == read.process
            and load.began < since
            and load.ended + WRITING >= read.began
            for load in self.log.loads
        )


def _marked(act: Act) -> list[str]:
    """Return the names of the markers that *act* writes."""
    if act.kind == "tags":
        return [f"t:{tag}" for tag in act.tags]
    return ["*"] if act.kind == "clear" else [f"p:{act.pattern.rstrip('*')}"]


def _is_prefix(pattern: str) -> bool:
    return pattern.endswith("*") and not any(letter in pattern[:-1] for letter in "*?[")
