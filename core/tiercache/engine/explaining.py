"""Why a key is answered as it is: its route, where copies stand, and what each of them is worth.

Everything is looked at and nothing is changed: no promotion, no count of a read, no deletion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from tiercache.clock import NEVER
from tiercache.engine import judging
from tiercache.engine.guard import FRAMES, answers
from tiercache.errors import Undecodable
from tiercache.frame import TOMBSTONE, Head

if TYPE_CHECKING:
    from tiercache.engine.coherence import Coherence
    from tiercache.engine.far import Far
    from tiercache.engine.house import House
    from tiercache.engine.pipeline import Route


@dataclass(frozen=True, slots=True)
class Copy:
    """What one tier holds of the key. Times are seconds from now, negative for what is past."""

    tier: str
    kind: str
    """"near" or "far"."""
    state: str
    """"fresh", "stale", "expired", "invalidated", "deleted", "damaged", "untrusted", "absent", "unreachable",
    "behind" (a write to it waits to be made good), or "elsewhere" (fresh, in a tier that the route does not
    read).
    """
    reason: str = ""
    """Why, in words."""
    age: float | None = None
    """Seconds since it was made."""
    fresh_for: float | None = None
    """Seconds until it is no longer fresh; None for ever, or where nothing stands."""
    stale_for: float | None = None
    """Seconds until it may not even serve as a stale copy."""
    refresh_in: float | None = None
    """Seconds until a read starts a refresh, where the route asks for that."""
    tags: tuple[str, ...] = ()
    stamp: int = 0
    """When it was made, as a stamp: microseconds since the epoch."""
    serializer: str = ""
    compressor: str = ""
    size: int = 0
    """Bytes as stored."""
    breaker: str = ""
    """Of a far tier."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a read of a key would find, and why."""

    key: str
    address: str
    """The key as far tiers know it."""
    route: str
    why: str
    """How the key came to its route."""
    verdict: str
    """What a read would be answered with, in one line."""
    copies: tuple[Copy, ...]
    """By tier: those of the route, nearest first, then the others."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as dictionaries and numbers, ready for JSON."""
        return asdict(self)


async def explain(house: House, key: str, name: str | None = None) -> Explanation:
    """Look for *key* in every tier. Raises InvalidKey, and ValueError for a route that is not declared."""
    route = house.way(key, name)
    order = house.tiers_of(route)
    copies: list[Copy] = []
    buried = 0
    for tier in [*order, *(t for t in (*house.nears, *house.fars) if t not in order)]:
        if tier in house.nears:
            copies.append(_near(house, route, tier, key))
            continue
        copy, buried = await _far(house, route, house.fars[tier], key, buried)
        copies.append(copy)
    copies = [_placed(copy, order) for copy in copies]
    return Explanation(
        key, route.address(key), route.name, _why(house, key, name), _verdict(copies), tuple(copies)
    )


def _why(house: House, key: str, name: str | None) -> str:
    if name is not None:
        return "it was asked for"
    for matches, _, pattern in house.globs:
        if matches(key):
            return f'it is the first with a pattern that matches: "{pattern}"'
    return "it is the default route: no pattern matches"


def _placed(copy: Copy, order: tuple[str, ...]) -> Copy:
    if copy.tier in order or copy.state != "fresh":
        return copy
    return replace(copy, state="elsewhere", reason="the route of the key does not read this tier")


def _verdict(copies: list[Copy]) -> str:
    for copy in copies:
        if copy.state == "fresh":
            return f'a read is answered by "{copy.tier}"'
    for copy in copies:
        if copy.state == "stale":
            return f'nothing is fresh: get_or_set loads, and "{copy.tier}" has a stale copy where that fails'
    told = [copy for copy in copies if copy.state != "absent"]
    if not told:
        return "a miss: no tier has it"
    reasons = "; ".join(f'"{copy.tier}": {copy.reason or copy.state}' for copy in told)
    return f"a miss: {reasons}"


def _near(house: House, route: Route, tier: str, key: str) -> Copy:
    near = house.nears[tier]
    entry = near.get(key)
    if entry is None:
        return Copy(tier, "near", "absent", "memory of this process; that of others can't be seen from here")
    tags = tuple(near.tags(key))
    now = house.clock.monotonic()
    fresh_for = entry.fresh_until + entry.terms.ahead - now
    stale_for = entry.fresh_until + entry.terms.stale - now
    state, reason = _worth(house, key, tags, entry.created_at, fresh_for, stale_for)
    if state == "fresh" and not entry.terms.trust.holds():
        state, reason = "untrusted", "changes by others may have been missed since it was kept"
    return Copy(
        tier, "near", state, reason,
        age=(house.clock.micros() - entry.created_at) / 1e6,
        fresh_for=_finite(fresh_for),
        stale_for=_finite(max(stale_for, fresh_for)),
        refresh_in=_finite(entry.fresh_until - now) if route.rules.refresh_ahead else None,
        tags=tags,
        stamp=entry.created_at,
        size=entry.weight,
    )  # fmt: skip


async def _far(house: House, route: Route, far: Far, key: str, buried: int) -> tuple[Copy, int]:
    address = route.address(key)
    breaker = far.guard.breaker.state
    if far.recovery.hides(address):
        reason = "a change that it has not been told of yet waits to be made good"
        return Copy(far.name, "far", "behind", reason, breaker=breaker), buried
    frames = await far.guard.call(answers, far.guard.tier.read, [address], FRAMES)
    breaker = far.guard.breaker.state
    if frames is None:
        return Copy(far.name, "far", "unreachable", f"it does not answer; its breaker is {breaker}",
                    breaker=breaker), buried  # fmt: skip
    if (frame := frames[0]) is None:
        return Copy(far.name, "far", "absent", breaker=breaker), buried
    try:
        head = judging.head(route, far, address.encode(), frame)
        if not head.flags & TOMBSTONE:
            route.decoder.value(address.encode(), frame, head)
    except Undecodable as error:
        return Copy(far.name, "far", "damaged", str(error), size=len(frame), breaker=breaker), buried
    return _judged(house, route, far, key, frame, head, buried)


def _judged(
    house: House, route: Route, far: Far, key: str, frame: bytes, head: Head, buried: int
) -> tuple[Copy, int]:
    now = house.clock.micros()
    fresh_for = math.inf if head.fresh_until >= NEVER else (head.fresh_until - now) / 1e6
    stale_for = math.inf if head.stale_until >= NEVER else (head.stale_until - now) / 1e6
    state, reason = _worth(house, key, head.tags, head.created_at, fresh_for, stale_for)
    if head.flags & TOMBSTONE:
        state, reason = "deleted", "it was deleted, and the tier remembers that for a while"
        buried = max(buried, head.stamp)
    elif head.created_at <= buried:
        state, reason = "deleted", "a nearer tier remembers that it was deleted later"
    elif (
        state == "fresh"
        and route.coherence is not None
        and not _sure(route, route.coherence, far, head.created_at)
    ):
        state, reason = "untrusted", "other hosts may have changed it, and the bus has not been heard since"
    share = route.rules.refresh_ahead
    refresh_in = None
    if share is not None and head.fresh_until < NEVER:
        refresh_in = (head.created_at + (head.fresh_until - head.created_at) * share - now) / 1e6
    return Copy(
        far.name, "far", state, reason,
        age=(now - head.created_at) / 1e6,
        fresh_for=_finite(fresh_for),
        stale_for=_finite(stale_for),
        refresh_in=refresh_in,
        tags=tuple(head.tags),
        stamp=head.created_at,
        serializer=head.serializer,
        compressor=head.compressor,
        size=len(frame),
        breaker=far.guard.breaker.state,
    ), buried  # fmt: skip


def _sure(route: Route, coherence: Coherence, far: Far, created_at: int) -> bool:
    if far in route.behind:
        return coherence.certain(far, created_at)
    return far is not route.authority or coherence.informed()


def _worth(
    house: House, key: str, tags: tuple[str, ...], created_at: int, fresh_for: float, stale_for: float
) -> tuple[str, str]:
    markers = house.invalidation.markers
    if stamp := markers.killed(key, tags, created_at):
        named = ", ".join(_markers(house, key, tags, stamp)) or "a marker"
        return "invalidated", f"{named} was invalidated after it was made"
    if fresh_for > 0:
        return "fresh", ""
    if stale_for > 0:
        return "stale", "its TTL is over"
    return "expired", "its TTL is over, and so is the time for which it might serve as a stale copy"


def _markers(house: House, key: str, tags: tuple[str, ...], stamp: int) -> Iterator[str]:
    for name, at in house.invalidation.markers.all().items():
        if at == stamp:
            kind, _, what = name.partition(":")
            if kind == "t" and what in tags:
                yield f'the tag "{what}"'
            elif kind == "p" and key.startswith(what):
                yield f'the prefix "{what}"'
            elif not what:
                yield "everything"


def _finite(seconds: float) -> float | None:
    return None if seconds == math.inf else seconds
