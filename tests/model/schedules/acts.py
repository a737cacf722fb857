"""What actors do with caches: each act drawn by the chance of the world, many at a time, some cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from model.schedules.log import Act
from model.schedules.storage import DEADLINE
from model.schedules.world import CALM, HORIZON, TAGS, Process, Seat, World
from tiercache import MISSING

LONGEST = 10.0
"""Seconds of an outage."""

WEIGHTS = {
    "get": 20, "get_many": 4, "get_or_set": 26, "get_or_set_many": 4, "set": 12, "set_many": 3, "delete": 10,
    "delete_many": 2, "tags": 5, "prefix": 3, "match": 2, "clear": 2, "refresh": 3, "expire": 2, "add": 2,
    "touch": 2, "once": 2, "increment": 4, "outage": 2, "flush": 1,
}  # fmt: skip
KINDS, SHARES = tuple(WEIGHTS), tuple(WEIGHTS.values())
PREFIXES = ("a", "ab", "u:")
PATTERNS = ("a*", "*b", "?", "u:*", "[au]*")


async def script(world: World) -> None:
    """Open the caches, let everybody act, let the weather calm down, read everything again, close."""
    setting = world.setting
    seats = [Seat(world, number, host) for number, host in enumerate(setting.seats)]
    for seat in seats:
        await seat.open()
    tasks = [
        asyncio.create_task(_actor(world, seat), name=f"actor of {seat.letter}")
        for seat in seats
        for _ in range(setting.actors)
    ]
    if setting.reopens:
        tasks += [
            asyncio.create_task(_reopen(world, seat), name=f"keeper of {seat.letter}") for seat in seats
        ]
    _, pending = await asyncio.wait(tasks, timeout=HORIZON)
    if pending:
        world.log.wrong.append(f"not over after {HORIZON} s: {sorted(task.get_name() for task in pending)}")
    world.weather.calm()
    await asyncio.sleep(CALM)
    await _epilogue(world, seats)
    for seat in seats:
        await seat.close()
    # What was given up may take its time, but it ends.
    await asyncio.sleep(CALM)


async def _epilogue(world: World, seats: list[Seat]) -> None:
    for seat in seats:
        for route in world.setting.routes:
            # What nobody has is asked of every store: one that was away when its process began is told
            # what it missed when it is first asked.
            for key in (*world.setting.keys, "once:1", "n:1", "nobody"):
                await _one(world, seat.process, "get", (key,), route)
    await asyncio.sleep(5)
    for seat in seats:
        for name, tier in seat.process.cache.stats().tiers.items():
            if tier.queued:
                world.log.wrong.append(
                    f"{seat.process.name} still owes {tier.queued} to {name} in calm weather"
                )


async def _reopen(world: World, seat: Seat) -> None:
    await world.pause(world.chance.choice((0.01, 1.0, 5.0)))
    await seat.close()
    await world.pause(world.chance.choice((0.0, 0.1)))
    await seat.open()


async def _actor(world: World, seat: Seat) -> None:
    chance = world.chance
    for _ in range(world.setting.acts):
        await world.pause(chance.choice((0.0, 0.0, 0.0, 0.0, 0.001, 0.01, 0.1, 1.0, 3.0)))
        kind = chance.choices(KINDS, SHARES)[0]
        if kind == "outage":
            _outage(world, seat)
        elif kind == "flush":
            if world.setting.flushes and world.stores:
                world.store(chance.choice(tuple(world.stores))).flush()
        else:
            await _maybe_cancelled(world, seat.process, kind)


def _outage(world: World, seat: Seat) -> None:
    chance, out = world.chance, world.weather.out
    if not world.setting.outages or not world.stores:
        return
    where = chance.choice(("", seat.process.name)), chance.choice(tuple(world.stores))
    out[where] = chance.choice(("refuse", "hang"))
    world.log.tell(world.loop.ticks, f"    outage: {where} {out[where]}")
    world.loop.call_later(min(DEADLINE * chance.expovariate(0.5), LONGEST), out.pop, where, None)


async def _maybe_cancelled(world: World, process: Process, kind: str) -> None:
    chance = world.chance
    routes = tuple(world.setting.routes)
    route = chance.choice(routes) if len(routes) > 1 and chance.random() < 0.5 else None
    keys = tuple(chance.sample(world.setting.keys, min(len(world.setting.keys), chance.choice((1, 2, 3)))))
    task = asyncio.create_task(_one(world, process, kind, keys, route), name=f"{kind} of {process.name}")
    if chance.random() < world.setting.cancels:
        world.loop.call_later(chance.choice((0.0001, 0.01, 2.0)) * chance.random(), _cancel, world, task)
    # What is cancelled before it begins raises, and is no act.
    await asyncio.wait([task])


def _cancel(world: World, task: asyncio.Task[Any]) -> None:
    act = DOING.get(task)
    if act is not None and not task.done():
        act.asked = world.log.place()
        world.log.tell(world.loop.ticks, f"  act {act.number} is cancelled")
        task.cancel()


DOING: dict[asyncio.Task[Any], Act] = {}
"""The act that a task does."""


async def _one(world: World, process: Process, kind: str, keys: tuple[str, ...], route: str | None) -> None:
    task = asyncio.current_task()
    assert task is not None
    act, about = _drawn(world, process, kind, keys, route)

    def noted(number: Act) -> Awaitable[Any]:
        DOING[task] = number
        return act(number)

    about.setdefault("keys", keys[:1])
    try:
        await world.act(process, kind, call=noted, **about)
    finally:
        DOING.pop(task, None)


def _drawn(
    world: World, process: Process, kind: str, keys: tuple[str, ...], route: str | None
) -> tuple[Callable[[Act], Awaitable[Any]], dict[str, Any]]:
    """Return the call of an act, and what is to be known of it."""
    cache, chance, key = process.cache, world.chance, keys[0]
    ttl = chance.choice((None, None, 1.0, 30.0))
    stale = chance.choice((None, None, 20.0))
    tags = chance.choice(((), (), ("red",), TAGS))
    life = {"ttl": ttl, "stale": stale, "tags": tags}
    about: dict[str, Any] = {"route": route}
    match kind:
        case "get":
            return lambda act: cache.get(key, MISSING, route=route), about
        case "get_many":
            return lambda act: cache.get_many(keys, route=route), about | {"keys": keys}
        case "get_or_set" | "refresh":
            call = getattr(cache, kind)
            return lambda act: call(key, world.loader(act, key), route=route, **life), about | life
        case "get_or_set_many":
            many = partial(cache.get_or_set_many, keys, route=route, **life)
            return lambda act: many(world.bulk(act)), about | life | {"keys": keys}
        case "set" | "add":
            value = world.value(key)
            call = partial(getattr(cache, kind), key, value, route=route, **life)
            return lambda act: call(), about | life | {"values": {key: value}}
        case "once":
            key, value = "once:1", "first#" + str(next(world.numbers))
            return lambda act: cache.add(key, value, ttl="never"), {"keys": (key,), "values": {key: value}}
        case "set_many":
            values = {key: world.value(key) for key in keys}
            return lambda act: cache.set_many(values, route=route, **life), about | life | {
                "keys": keys, "values": values,
            }  # fmt: skip
        case "delete":
            return lambda act: cache.delete(key), {}
        case "delete_many":
            return lambda act: cache.delete_many(keys), {"keys": keys}
        case "tags":
            named = (chance.choice(TAGS),)
            return lambda act: cache.invalidate(tags=named), {"keys": (), "tags": named}
        case "prefix":
            prefix = chance.choice(PREFIXES)
            return lambda act: cache.invalidate(prefix=prefix), {"keys": (), "pattern": prefix}
        case "match":
            pattern = chance.choice(PATTERNS)
            return lambda act: cache.invalidate(match=pattern), {"keys": (), "pattern": pattern}
        case "clear":
            return lambda act: cache.clear(), {"keys": ()}
        case "expire":
            return lambda act: cache.expire(key, route=route), about
        case "touch":
            longer = chance.choice((5.0, 50.0))
            return lambda act: cache.touch(key, ttl=longer, route=route), about | {"ttl": longer}
        case "increment":
            return lambda act: cache.increment("n:1", ttl="never"), {"keys": ("n:1",)}
    raise AssertionError(kind)
