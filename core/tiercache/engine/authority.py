"""What must not be guessed: add, touch, increment. One tier of the route answers, and no near copy is kept.

The authority is the route's shared tier, else its disk tier, else the near one. Where it can't answer,
TierUnavailable is raised; a local guess would let two processes both believe that they were first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, NamedTuple

from tiercache.contracts import Life, Record
from tiercache.engine.far import Far
from tiercache.engine.guard import FRAMES, NUMBERS, answers
from tiercache.engine.offset import past
from tiercache.engine.pipeline import Route
from tiercache.engine.saving import save, spread
from tiercache.entry import Entry
from tiercache.errors import TierUnavailable, Undecodable, Unsupported
from tiercache.frame import COUNTER, TOMBSTONE, Head, restamped, stamp_of

ATTEMPTS: Final = 32
"""Rounds of compare and set before a key counts as too contended to answer for."""

APART: Final = 100_000
"""Microseconds that the clocks of two processes are taken to differ by where each measures a server's, beside
the doubt of one's own."""

SMALLEST: Final = -(2**63)
LARGEST: Final = 2**63 - 1


class _Standing(NamedTuple):
    stamp: int | None
    """Of whatever stands, dead or alive; None where nothing does."""
    head: Head | None
    """Where something alive stands."""
    frame: bytes


async def add(route: Route, key: str, value: Any, life: Life) -> bool:
    """Store *value* only where no fresh entry stands; return whether it was stored."""
    far = route.authority
    if far is None:
        return await _add_near(route, key, value, life)
    address = route.address(key)

    async def attempt(standing: _Standing) -> bool | None:
        if standing.head is not None:
            return False
        term = route.term(life)
        frame = far.codec.encode(address.encode(), value, route.clock.final(), *term[:2], life.tags, term[2])
        record = far.record(address, frame, term[1], conditional=False)
        return True if await _swap(route, far, record, standing.stamp) else None

    stored: bool = await _changed(route, far, key, attempt)
    return stored


async def touch(route: Route, key: str, ttl: float) -> bool:
    """Let the entry of *key* be fresh for *ttl* seconds from now; return whether there is one."""
    far = route.authority
    if far is None:
        return await _touch_near(route, key, ttl)
    address = route.address(key)

    async def attempt(standing: _Standing) -> bool | None:
        head = standing.head
        if head is None:
            return False
        stale = (head.stale_until - head.fresh_until) / 1_000_000
        until = route.term(Life(ttl, stale))
        try:
            frame = route.decoder.relived(address.encode(), standing.frame, head, *until)
        except Undecodable:
            far.guard.counts.corrupt += 1
            return False
        record = far.record(address, restamped(frame, route.clock.stamp()), until[1], conditional=False)
        return True if await _swap(route, far, record, standing.stamp) else None

    touched: bool = await _changed(route, far, key, attempt)
    return touched


async def expire(route: Route, key: str) -> bool:
    """Let the entry of *key* end now in every tier of the route, and keep it as a stale copy.

    A far tier that can't compare and set drops it instead.
    """
    entry = _resident(route, key) if route.near is not None else None
    expired = entry is not None
    route.detach(key)
    if entry is not None:
        route.keeping.lapse(entry)
    address = route.address(key)
    for far in route.fars:
        if far.swap is None:
            expired = bool(await far.writes.delete(address)) or expired
            continue

        async def attempt(standing: _Standing, far: Far = far) -> bool | None:
            head = standing.head
            if head is None:
                return False
            try:
                now = route.clock.micros()
                if route.clock.doubt:
                    # Ended for those too whose clock is a little behind.
                    now -= route.clock.doubt + APART
                stale_until = now if head.end else head.stale_until
                frame = route.decoder.relived(address.encode(), standing.frame, head, now, stale_until)
            except Undecodable:
                far.guard.counts.corrupt += 1
                return False
            stamped = restamped(frame, route.clock.stamp())
            record = far.record(address, stamped, stale_until, conditional=False)
            return True if await _swap(route, far, record, standing.stamp) else None

        with contextlib.suppress(TierUnavailable):
            expired = await _attempts(route, far, key, attempt) or expired
    route.detach(key)
    return expired


async def increment(route: Route, key: str, delta: int, life: Life) -> int:
    """Add *delta* to the integer under *key*, which keeps its expiry; start from *delta* where none stands.

    Raises TypeError where something else stands, OverflowError where the sum does not fit 64 bits.
    """
    if type(delta) is not int:
        raise TypeError(f"delta must be an int, not {type(delta).__name__}")
    _fitting(delta, key)
    far = route.authority
    if far is None:
        return await _increment_near(route, key, delta, life)
    address = route.address(key)

    def fresh() -> Record:
        term = route.term(life._replace(stale=0.0))
        frame = far.codec.encode(address.encode(), delta, route.clock.final(), *term[:2], life.tags, term[2])
        return far.record(address, frame, term[1], conditional=False)

    async def added() -> int | None:
        assert far.counter is not None
        record = fresh()
        frame = _answered(far, await far.writes.count(partial(far.counter, record, delta), address))
        if frame[8:] == record.frame[8:]:
            # Begun by this call, however short its life.
            route.clock.observe(stamp_of(frame))
            await past(route.clock, record.stamp)
            return delta
        standing = _judged(route, far, key, frame)
        # To what is dead, or damaged, nothing was added: it is as dead as before, and counts for nobody.
        return None if standing.head is None else int(frame[standing.head.payload :])

    async def unseen() -> int | None:
        try:
            return await added()
        except (TypeError, OverflowError):
            # By what may be dead.
            return None

    async def attempt(standing: _Standing) -> int | None:
        head = standing.head
        if head is None and standing.stamp is not None:
            # What stands is dead, or damaged, and only kept for a while: the tier would add to it.
            return delta if await _swap(route, far, fresh(), standing.stamp) else None
        if far.counter is not None:
            return await added()
        if head is None:
            return delta if await _swap(route, far, fresh(), None) else None
        if not head.flags & COUNTER:
            raise TypeError(f"the value under {key!r} is no integer of 64 bits")
        total = _fitting(int(standing.frame[head.payload :]) + delta, key)
        record = _rewritten(route, far, address, total, head, head.fresh_until, head.stale_until)
        return total if await _swap(route, far, record, standing.stamp) else None

    total: int = await _changed(route, far, key, attempt, unseen if far.counter is not None else None)
    return total


async def _changed(
    route: Route,
    far: Far,
    key: str,
    attempt: Callable[[_Standing], Awaitable[Any]],
    unseen: Callable[[], Awaitable[Any]] | None = None,
) -> Any:
    """Return what *attempt* comes to; unless that is False, no other tier serves what it has changed.

    *unseen*, which needs not know what stands, is tried before, and spares a read where it comes to anything.
    """
    try:
        result = await _attempts(route, far, key, attempt, unseen)
        if result is not False:
            await _settle(route, far, key)
    except asyncio.CancelledError:
        # Who is cancelled leaves; what was asked for may have come about, or do so yet.
        route.flights.hold(key, [far.writes], partial(_settle, route, far, key))
        raise
    return result


async def _attempts(
    route: Route,
    far: Far,
    key: str,
    attempt: Callable[[_Standing], Awaitable[Any]],
    unseen: Callable[[], Awaitable[Any]] | None = None,
) -> Any:
    if far.writes.voids is not None:
        await _ask(far, route.address(key), answers, far.writes.voids.void, [route.address(key)], NUMBERS)
    if route.rules.coherent:
        await _ask(far, route.address(key), far.learn, route.address(key))
    if unseen is not None and (result := await unseen()) is not None:
        return result
    for _ in range(ATTEMPTS):
        result = await attempt(await _standing(route, far, key))
        if result is not None:
            return result
    raise TierUnavailable(
        f"tier {far.name}: {key!r} was changed by others {ATTEMPTS} times in a row; try again"
    )


async def _standing(route: Route, far: Far, key: str) -> _Standing:
    address = route.address(key)
    frame = (await _ask(far, address, answers, far.guard.tier.read, [address], FRAMES))[0]
    return _Standing(None, None, b"") if frame is None else _judged(route, far, key, frame)


def _judged(route: Route, far: Far, key: str, frame: bytes) -> _Standing:
    stamp = stamp_of(frame)
    route.clock.observe(stamp)
    try:
        head = route.head(far, route.address(key).encode(), frame)
    except Undecodable:
        far.guard.counts.corrupt += 1
        return _Standing(stamp, None, b"")
    if (
        head.flags & TOMBSTONE
        or route.clock.micros() >= head.fresh_until
        or route.markers.killed(key, head.tags, head.created_at)
    ):
        return _Standing(stamp, None, b"")
    return _Standing(stamp, head, frame)


async def _swap(route: Route, far: Far, record: Record, expected: int | None) -> bool:
    if far.swap is None:
        raise Unsupported(
            f"tier {far.name} answers for this route, but can't compare and set; add, touch and increment "
            "need a tier that can (the ability Swaps)"
        )
    swapped: bool = await _ask(far, record.key, far.swap, record, expected)
    far.guard.counts.writes += swapped
    if swapped:
        await past(route.clock, record.stamp)
    return swapped


async def _ask(far: Far, address: str, act: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    return _answered(far, await far.writes.call(partial(act, *arguments), address))


def _answered(far: Far, result: Any) -> Any:
    if result is None:
        raise TierUnavailable(f"tier {far.name} can't be reached, and no other tier may answer this")
    return result


async def _settle(route: Route, far: Far, key: str) -> None:
    """Let no other tier go on serving what the authority has just changed."""
    with route.flights.closing.keys((key,)):
        route.forget(key)
        for done in route.drop_elsewhere(key, but=far):
            await done
        # Again: a read that began before the change may have landed meanwhile.
        route.forget(key)


def _rewritten(
    route: Route, far: Far, address: str, value: Any, head: Head, fresh_until: int, stale_until: int
) -> Record:
    frame = far.codec.encode(
        address.encode(), value, head.created_at, fresh_until, stale_until, head.tags, head.end
    )
    return far.record(address, restamped(frame, route.clock.stamp()), stale_until, conditional=False)


def _fitting(total: int, key: str) -> int:
    if not SMALLEST <= total <= LARGEST:
        raise OverflowError(f"the counter under {key!r} would leave the 64 bits of a signed integer")
    return total


def _resident(route: Route, key: str) -> Entry | None:
    assert route.near is not None
    entry = route.near.get(key)
    if entry is None or route.clock.monotonic() >= entry.fresh_until + entry.terms.ahead:
        return None
    if route.markers.killed(key, route.near.tags(key), entry.created_at):
        return None
    return entry


async def _add_near(route: Route, key: str, value: Any, life: Life) -> bool:
    if _resident(route, key) is not None:
        return False
    # It is near before anything is awaited; then other tiers drop what they have.
    await save(route, key, value, life)
    return True


async def _touch_near(route: Route, key: str, ttl: float) -> bool:
    entry = _resident(route, key)
    if entry is None or route.near is None:
        return False
    tags = route.near.tags(key)
    route.detach(key)
    route.keeping.place(key, entry.value, entry.created_at, ttl, entry.terms.stale - entry.terms.ahead, tags)
    await _drop_elsewhere(route, key)
    return True


async def _increment_near(route: Route, key: str, delta: int, life: Life) -> int:
    entry = _resident(route, key)
    if entry is None or route.near is None:
        await save(route, key, delta, life)
        return delta
    if type(entry.value) is not int or not SMALLEST <= entry.value <= LARGEST:
        raise TypeError(f"the value under {key!r} is no integer of 64 bits")
    total = _fitting(entry.value + delta, key)
    ends = entry.fresh_until + entry.terms.ahead if route.slides is None else route.slides.end(entry)
    remaining = ends - route.clock.monotonic()
    route.detach(key)
    stale = entry.terms.stale - entry.terms.ahead
    route.keeping.place(key, total, route.clock.stamp(), remaining, stale, route.near.tags(key))
    await _drop_elsewhere(route, key)
    return total


async def _drop_elsewhere(route: Route, key: str) -> None:
    """Let no tier of another route go on serving what has changed near."""
    if not route.alone:
        await spread(route, key, (), route.drop_elsewhere(key))
