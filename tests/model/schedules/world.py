"""The world of one schedule: hosts, processes that come and go, the source that loaders ask."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import sys
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from typing import Any
from unittest import mock

from model.schedules.log import Act, Loading, Log
from model.schedules.loop import Loop, Stuck
from model.schedules.setting import Setting
from model.schedules.storage import BUILDING, Line, PromptLine, Store, Weather
from tiercache import Cache, Clock, Loaded
from tiercache.cache.variants import variant
from tiercache.config.build import build

EPOCH = 1_600_000_000
"""Seconds; when every schedule begins."""
HORIZON = 900.0
"""Seconds within which everything that was asked for must have ended."""
CALM = 12.0
"""Seconds of good weather after which nothing may be owed to any store."""
TAGS = ("red", "blue")


class SourceDown(Exception):
    """The source does not answer: what loaders raise."""


class Process:
    """One life of a cache: from its opening to its closing."""

    def __init__(self, world: World, name: str, host: str) -> None:
        self.world = world
        self.name = name
        self.host = host
        token = BUILDING.set(self.line)
        try:
            house = build(world.setting.plan, Clock(world.now))
        finally:
            BUILDING.reset(token)
        self.cache: Cache = variant(house)(house)

    def line(self, tier: str) -> Line:
        store = self.world.store(tier if tier == "shared" else f"{tier} of {self.host}")
        kind = PromptLine if self.world.setting.prompt else Line
        return kind(self.name, store, self.world.weather)


class Seat:
    """Where one process after another serves the same actors."""

    def __init__(self, world: World, number: int, host: str) -> None:
        self.world = world
        self.letter = "ABCD"[number]
        self.host = host
        self.lives = count(1)
        self.process: Process

    async def open(self) -> None:
        process = Process(self.world, f"{self.letter}{next(self.lives)}", self.host)
        await process.cache.start()
        self.process = process
        self.world.processes[process.name] = process

    async def close(self) -> None:
        world = self.world
        world.log.closings[self.process.name] = world.log.place()
        world.log.tell(world.loop.ticks, f"    {self.process.name} is closed")
        await self.process.cache.close()


class World:
    """Everything of one schedule."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.chance = random.Random(setting.seed + 1)
        self.loop = Loop(random.Random(setting.seed + 2), setting.order)
        self.log = Log()
        self.weather = Weather(self.chance, setting.badness)
        self.stores: dict[str, Store] = {}
        self.processes: dict[str, Process] = {}
        self.numbers = count(1)

    def now(self) -> float:
        return EPOCH + self.loop.time()

    def store(self, name: str) -> Store:
        if name not in self.stores:
            micros = lambda: int(self.now() * 1_000_000)  # noqa: E731 - the clock of the store
            self.stores[name] = Store(name, self.loop, self.log, micros, self.weather)
        return self.stores[name]

    def value(self, key: str) -> str | None:
        """Return a value that nobody else writes; now and then None, which is a value, too."""
        number = next(self.numbers)
        return None if self.chance.random() < 0.06 else f"{key}#{number}"

    async def act(
        self, process: Process, kind: str, keys: tuple[str, ...], call: Callable[[Act], Awaitable[Any]],
        **about: Any,
    ) -> Act:  # fmt: skip
        """Do *call* as an act, and write down how it ended."""
        act = self.log.begin(self.loop.ticks, process.name, kind, keys, **about)
        outcome, result, error = "ok", None, None
        try:
            result = await call(act)
        except asyncio.CancelledError:
            outcome = "cancelled"
        except Exception as raised:
            outcome, error = "error", raised
        self.log.finish(self.loop.ticks, act, outcome, result, error)
        return act

    # The source

    def loader(self, act: Act, key: str) -> Callable[[], Any]:
        """Return a loader of *key*: it brings what the source says when it begins, or fails."""
        if self.chance.random() < 0.15:
            return lambda: self._finish(self._began(act, key))
        return lambda: self._load(act, [key], lambda loads: self._finish(loads[0]))

    def bulk(self, act: Act) -> Callable[[list[str]], Any]:
        """Return a loader of many keys, which may know some of them not."""

        def brought(loads: list[Loading]) -> dict[str, Any]:
            known = [load for load in loads if self.chance.random() > 0.1]
            for load in loads:
                load.stored = load in known
            return {load.key: load.value for load in known}

        return lambda keys: self._load(act, keys, brought)

    def _began(self, act: Act, key: str) -> Loading:
        log = self.log
        load = Loading(act, key, self.value(key), act.tags, log.place(), self.loop.ticks)
        log.loads.append(load)
        log.tell(self.loop.ticks, f"  load of {key} for act {act.number} begins, brings {load.value!r}")
        return load

    def _ended(self, load: Loading, outcome: str) -> None:
        load.outcome, load.end, load.ended = outcome, self.log.place(), self.loop.ticks
        self.log.tell(self.loop.ticks, f"  load of {load.key} for act {load.act.number} ended {outcome}")

    def _finish(self, load: Loading) -> Any:
        """Return what a loader returns for *load*: the value, or more about it."""
        if load.outcome == "":
            self._ended(load, "ok")
        match self.chance.randrange(20):
            case 0:
                load.stored = False
                return Loaded(load.value, store=False)
            case 1 | 2:
                load.tags = (self.chance.choice(TAGS),)
                load.ttl = self.chance.choice((None, 3.0))
                return Loaded(load.value, tags=load.tags, ttl=load.ttl)
        return load.value

    async def _load(self, act: Act, keys: list[str], brought: Callable[[list[Loading]], Any]) -> Any:
        loads = [self._began(act, key) for key in keys]
        outcome = "error"
        try:
            chance = self.chance
            await self.pause(chance.choice((0.0, 0.0, 0.001, 0.05, 1.0, 3.0)))
            if chance.random() < 0.01:
                await asyncio.sleep(chance.choice((10, 70)))
            if chance.random() < 0.1:
                raise SourceDown("the source is down")
            if chance.random() < 0.01:
                for load in loads:
                    load.own_doing = True
                raise asyncio.CancelledError
            outcome = "ok"
        except asyncio.CancelledError:
            outcome = "cancelled"
            if self.chance.random() < 0.7 or loads[0].own_doing:
                raise
            # Stubborn: it takes its time, and brings a value or an error in spite of all.
            await self.pause(self.chance.choice((0.0, 0.01, 1.0)))
            if self.chance.random() < 0.3:
                raise SourceDown("interrupted") from None
        finally:
            for load in loads:
                self._ended(load, outcome)
        return brought(loads)

    async def pause(self, mean: float) -> None:
        """Let others go on: for a few steps, or for *mean* seconds or so."""
        if not mean:
            for _ in range(self.chance.randrange(4)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(mean * self.chance.expovariate(1.0))


def play(setting: Setting, script: Callable[[World], Awaitable[None]]) -> World:
    """Let *script* go through the world of *setting*, and write down what must not be: what does not end,
    what asyncio calls lost, what the engine logs as an error of its own.
    """
    # What is lost is told when it is collected; what stood before needs no look.
    gc.freeze()
    world = World(setting)
    with _surroundings(world) as told:
        loop = world.loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(script(world))
        except Stuck as error:
            world.log.wrong.append(f"somebody waits for ever: {error}; {_waiting(loop)}")
        finally:
            timers = [str(timer) for timer in loop._scheduled if not timer._cancelled]
            if left := _waiting(loop) + timers:
                world.log.wrong.append(f"left behind when all was closed: {left}")
            for task in asyncio.all_tasks(loop):
                task.cancel()
            with contextlib.suppress(Stuck):
                loop.run_until_complete(asyncio.sleep(10))
            asyncio.set_event_loop(None)
            loop.close()
            gc.collect()
            gc.unfreeze()
        for context in loop.lost:
            culprit = context.get("task") or context.get("future")
            world.log.wrong.append(f"lost: {context['message']} {context.get('exception')!r} {culprit}")
        world.log.wrong += told
    return world


def _waiting(loop: Loop) -> list[str]:
    return sorted(f"{task.get_name()}" for task in asyncio.all_tasks(loop))


@contextlib.contextmanager
def _surroundings(world: World) -> Iterator[list[str]]:
    """Make all of a schedule depend on its seed, and collect what would be told elsewhere."""
    told: list[str] = []
    ticking = count()
    slow = random.Random(world.setting.seed + 3)

    def counter() -> float:
        # Real time: a slice of housekeeping ends after a few looks at it, or after many.
        return next(ticking) * slow.choice((1e-6, 1e-6, 1e-3))

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            world.log.tell(world.loop.ticks, f"    {record.levelname.lower()}: {message}")
            if record.levelno >= logging.ERROR:
                told.append(f"logged: {message} {record.exc_info and record.exc_info[1]!r}")

    handler = Told(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("tiercache", "asyncio")]
    state = random.getstate()
    unraisable = sys.unraisablehook
    sys.unraisablehook = lambda what: told.append(f"unraisable: {what.exc_value!r} in {what.object!r}")
    random.seed(world.setting.seed)
    propagated = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        with (
            mock.patch("tiercache.engine.invalidation.perf_counter", counter),
            mock.patch("tiercache.engine.hearing.perf_counter", counter),
            mock.patch("tiercache_plugins.tiers.memory.tier.perf_counter", counter),
            # Housekeeping at leisure, patience and pauses short: virtual minutes are full of heartbeats.
            mock.patch("tiercache.engine.house.REST", 5.0),
            mock.patch("tiercache.engine.guard.WIPING", 5.0),
            mock.patch("tiercache.engine.guard.OPENING", 5.0),
            mock.patch("tiercache.engine.breaker.LONGEST_PAUSE", 4.0),
            # Each by himself, whoever goes on may be any of them.
            mock.patch("tiercache.engine.tasks._TOLD", world.setting.together),
        ):
            yield told
    finally:
        for logger, propagate in zip(loggers, propagated, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate
        random.setstate(state)
        sys.unraisablehook = unraisable
