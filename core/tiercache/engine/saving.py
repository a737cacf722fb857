"""What becomes of a value that was set, or that a load brought: near at once, far in its turn."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tiercache.contracts import Life, Record
from tiercache.engine.loaded import Loaded
from tiercache.engine.offset import past
from tiercache.entry import MISSING

if TYPE_CHECKING:
    from tiercache.engine.codec import Codec
    from tiercache.engine.far import Far
    from tiercache.engine.loads import Load
    from tiercache.engine.pipeline import Route


async def save(route: Route, key: str, value: Any, life: Life) -> None:
    """Store what was set: near at once, far before this returns. Wins over whatever stands."""
    if route.rules.jitter:
        life = jittered(route, life)
    created_at = route.clock.final()
    records = encoded(route, key, value, created_at, life, conditional=False)
    route.detach(key)
    if route.rules.negative_errors:
        route.negatives.forget(key)
    if route.near is not None:
        mine = route.own(value) if route.copies else value
        route.keeping.place(key, mine, created_at, life.ttl, life.stale, life.tags)
    waiting = [far.writes.write(record) for far, record in records]
    dropped = () if route.alone else route.drop_elsewhere(key)
    if waiting or dropped:
        await spread(route, key, waiting, dropped, created_at if waiting else 0)


async def spread(
    route: Route,
    key: str,
    waiting: Sequence[asyncio.Future[int | None]],
    dropped: Sequence[asyncio.Future[bool | None]],
    latest: int = 0,
) -> None:
    """Wait until the far tiers have *key*, which has changed near, and other tiers have dropped it.

    Until then a read may still find the old value there, and where the near tier has evicted the new one
    meanwhile, nothing would keep the old one out of it: so the key is closed. *latest* is the stamp of what
    was written: a tier that can't take it now will be given it later as it is.
    """
    flights = route.flights
    flights.closing.close(key)
    try:
        for future in waiting:
            if stamp := await future:
                route.clock.observe(stamp)
                latest = max(latest, stamp)
        for done in dropped:
            await done
    except asyncio.CancelledError:
        # Who is cancelled leaves; the writes go on, and the key stays closed until they are done.
        flights.hold(key, [far.writes for far in route.reached], lambda: route.detach(key))
        raise
    finally:
        flights.closing.reopen(key)
    route.detach(key)
    if latest:
        await past(route.clock, latest)


def loaded(
    route: Route, load: Load, brought: Any, began: int
) -> tuple[Any, list[asyncio.Future[int | None]]]:
    """Store what a load brought, unless its key changed meanwhile.

    Return the value, and the far writes under way. Raises Unserializable.
    """
    life, value, store = load.life, brought, brought is not MISSING
    if isinstance(brought, Loaded):
        value, store = brought.value, brought.store
        life = brought.life(life)
    elif value is None and route.rules.negative_ttl is not None:
        life = Life(route.rules.negative_ttl, 0.0, life.tags)
        if store and not load.detached:
            route.negatives.absent(load.key)
    route.check_stale(life.stale)
    load.killed = route.markers.killed(load.key, life.tags, began)
    if not store:
        return value, []
    life = load.life = jittered(route, life)
    records = encoded(route, load.key, value, began, life, conditional=True)
    if load.detached or load.killed:
        return value, []
    route.keeping.place(load.key, route.own(value), began, life.ttl, life.stale, life.tags, load.since)
    if route.turns is not None and load.lease is not None:
        return value, route.turns.store(load, dict(records))
    return value, [far.writes.write(record) for far, record in records]


def jittered(route: Route, life: Life) -> Life:
    """Return *life*, shortened by chance where the route asks for that: once, so that tiers agree."""
    if not route.rules.jitter or life.ttl == math.inf:
        return life
    return life._replace(ttl=life.ttl * (1 - route.chance() * route.rules.jitter))


def encoded(
    route: Route, key: str, value: Any, created_at: int, life: Life, *, conditional: bool
) -> list[tuple[Far, Record]]:
    """Return what is to be written to each far tier: one encoding serves all that share a codec.

    Raises Unserializable.
    """
    if not route.fars:
        return []
    fresh_until, stale_until, end = route.term(life)
    address = route.prefix + key
    octets = address.encode()
    frames: dict[Codec, bytes] = {}
    records = []
    for far in route.fars:
        frame = frames.get(far.codec)
        if frame is None:
            frame = frames[far.codec] = far.codec.encode(
                octets, value, created_at, fresh_until, stale_until, life.tags, end
            )
        record = far.record(address, frame, stale_until, conditional=conditional, stamp=created_at)
        records.append((far, record))
    return records
