"""Stores that processes share, in memory, and the bad lines that lead to them."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, Literal

from model.schedules.log import Applied, Call, Log
from model.schedules.loop import Loop
from model.schedules.radio import Ether
from tiercache import NEVER, Context, FarTierConfig, Record, hookimpl
from tiercache.frame import COUNTER, TOMBSTONE, restamped, stamp_of, unpack

DEADLINE = 2.0
"""Seconds that a call may take, by the documents of the schedules."""
_VALUE = re.compile(rb"[a-z:0-9]+#[0-9]+")

BUILDING: ContextVar[Callable[[str], Line]] = ContextVar("BUILDING")
"""Returns the line to the store of a tier, for the process that is being built."""


class Weather:
    """How calls fare: latencies, faults by chance, outages by order of an act."""

    def __init__(self, chance: random.Random, badness: float) -> None:
        self.chance = chance
        self.badness = badness
        """The share of calls that meet a fault."""
        self.out: dict[tuple[str, str], str] = {}
        """Outages, by process (or "") and store: "refuse" or "hang"."""
        self.latency = chance.choice((0.0, 0.0005, 0.02))

    def calm(self) -> None:
        self.badness = 0.0
        self.out.clear()

    def outage(self, process: str, store: str) -> str:
        return self.out.get((process, store)) or self.out.get(("", store)) or ""

    def fault(self, process: str, store: str, *, writes: bool) -> str:
        if outage := self.outage(process, store):
            return outage
        if not self.badness or self.chance.random() >= self.badness:
            return ""
        kinds = ("refuse", "hang", "slow", "stubborn")
        return self.chance.choice((*kinds, "lost", "late", "half") if writes else kinds)

    def travel(self) -> float:
        return self.latency * self.chance.expovariate(1.0) if self.latency else 0.0


class Store:
    """Frames and markers as all processes see them. Every change is one step, and is written down."""

    def __init__(self, name: str, loop: Loop, log: Log, micros: Callable[[], int], weather: Weather) -> None:
        self.name = name
        self.loop = loop
        self.log = log
        self.micros = micros
        self.rows: dict[str, tuple[bytes, int]] = {}
        self.markers: dict[str, int] = {}
        self.ether = Ether(self)
        self.weather = weather

    def tell(self, process: str, key: str, stamp: int) -> None:
        self.ether.send("change", process, (key, stamp), self.weather)

    def standing(self, key: str) -> bytes | None:
        frame, expires_at = self.rows.get(key, (None, 0))
        return frame if expires_at > self.micros() else None

    def note(
        self, process: str, what: str, key: str, frame: bytes | None, *, late: bool, stored: bool
    ) -> None:
        stood = self.standing(key)
        found = _VALUE.search(frame, 48) if frame is not None else None
        self._noted(
            process, what, key.partition(":")[2], created(key, frame), found[0].decode() if found else "",
            late=late, stood=None if stood is None else created(key, stood), stored=stored,
        )  # fmt: skip
        told = "late " * late + what + " not" * (not stored)
        value = f" {found[0].decode()}" if found else ""
        self.log.tell(self.loop.ticks, f"    {self.name} has {told} {key}{value} of {process}")

    def _noted(self, process: str, what: str, key: str, created_at: int, value: str, **about: Any) -> None:
        place, ticks = self.log.place(), self.loop.ticks
        self.log.applied.append(
            Applied(place, ticks, process, self.name, what, key, created_at, value, **about)
        )

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.standing(key) for key in keys]

    def put(self, process: str, record: Record, *, late: bool) -> int:
        stood, stamp = self.standing(record.key), record.stamp
        if stood is not None and stamp_of(stood) >= stamp:
            stamp = 0 if record.conditional else stamp_of(stood) + 1
        if record.expires_at <= self.micros():
            stamp = 0
        buries = record.frame[11] & TOMBSTONE
        what = "bury" if buries else "conditional write" if record.conditional else "write"
        self.note(process, what, record.key, record.frame, late=late, stored=stamp > 0)
        if stamp:
            self.rows[record.key] = (restamped(record.frame, stamp), record.expires_at)
            if stood is not None or record.news or not record.conditional:
                self.tell(process, record.key, stamp)
        elif not record.conditional:
            self.rows.pop(record.key, None)
        return stamp

    def drop(self, process: str, key: str, *, late: bool) -> bool:
        there = self.standing(key) is not None
        self.note(process, "delete", key, None, late=late, stored=there)
        self.rows.pop(key, None)
        self.tell(process, key, NEVER)
        return there

    def swap(self, process: str, record: Record, expected: int | None, *, late: bool) -> bool:
        stood = self.standing(record.key)
        fits = (None if stood is None else stamp_of(stood)) == expected
        self.note(process, "swap", record.key, record.frame, late=late, stored=fits)
        if fits:
            self.rows[record.key] = (record.frame, record.expires_at)
            self.tell(process, record.key, record.stamp)
        return fits

    def increment(self, process: str, record: Record, delta: int, *, late: bool) -> bytes:
        stood = self.standing(record.key)
        head = None if stood is None else unpack(record.key.encode(), stood)
        self.note(process, "increment", record.key, None, late=late, stored=True)
        if stood is None or head is None or head.flags & TOMBSTONE:
            stamp = max(record.stamp, 0 if stood is None else stamp_of(stood) + 1)
            frame = restamped(record.frame, stamp)
            self.rows[record.key] = (frame, record.expires_at)
            self.tell(process, record.key, stamp)
            return frame
        if not head.flags & COUNTER:
            raise TypeError("no counter")
        total = int(stood[head.payload :]) + delta
        frame = restamped(stood[: head.payload] + b"%d" % total, max(record.stamp, stamp_of(stood) + 1))
        self.rows[record.key] = (frame, self.rows[record.key][1])
        self.tell(process, record.key, stamp_of(frame))
        return frame

    def wipe(self, process: str, prefix: str) -> None:
        self.log.tell(self.loop.ticks, f"    {self.name} is wiped for {process}")
        for key in [key for key in self.rows if key.startswith(prefix)]:
            self.drop(process, key, late=False)
        self._noted(process, "wipe", "", 0, "", late=False, stood=None, stored=True)

    def mark(self, process: str, markers: Mapping[str, int], below: int) -> None:
        risen = {name: stamp for name, stamp in markers.items() if stamp > self.markers.get(name, 0)}
        if risen:
            self.ether.send("mark", process, risen, self.weather)
        for name, stamp in markers.items():
            self._noted(process, "mark", name, stamp, "", late=False, stood=None, stored=True)
            self.markers[name] = max(stamp, self.markers.get(name, 0))
        self.markers = {name: stamp for name, stamp in self.markers.items() if stamp >= below}

    def flush(self) -> None:
        """Lose everything, as a server does that was started anew."""
        self.log.flushes.append((self.log.place(), self.name))
        self.log.tell(self.loop.ticks, f"    {self.name} is flushed")
        self.rows.clear()
        self.markers.clear()
        self.ether.forget()


def created(key: str, frame: bytes | None) -> int:
    return 0 if frame is None else unpack(key.encode(), frame).created_at


class Line:
    """What one process has of a store: its far tier. Calls are slow, get lost, hang, and come too late."""

    def __init__(self, process: str, store: Store, weather: Weather) -> None:
        self.process = process
        self.store = store
        self.weather = weather

    async def open(self) -> None:
        await self._call("open", (), lambda late: None)

    async def close(self) -> None:
        """Nothing to release."""

    async def _call(self, what: str, keys: Sequence[str], act: Callable[[bool], Any]) -> Any:
        store, log = self.store, self.store.log
        writes = what not in {"open", "read", "scan", "marks"}
        fault = self.weather.fault(self.process, store.name, writes=writes)
        names = tuple(key.partition(":")[2] for key in keys)
        call = Call(self.process, store.name, what, names, log.place(), store.loop.ticks, fault)
        log.calls.append(call)
        if fault:
            log.tell(store.loop.ticks, f"    {what} of {self.process} at {store.name}: {fault}")
        try:
            return await self._fare(fault, act)
        finally:
            call.end, call.ended = log.place(), store.loop.ticks

    async def _fare(self, fault: str, act: Callable[[bool], Any]) -> Any:
        weather = self.weather
        if travel := weather.travel():
            await asyncio.sleep(travel)
        if fault == "refuse":
            raise ConnectionRefusedError("the line is down")
        if fault == "slow":
            await asyncio.sleep(DEADLINE * weather.chance.uniform(0.2, 1.1))
        if fault in {"hang", "late"}:
            if fault == "late":
                delay = DEADLINE * weather.chance.uniform(1.0, 4.0)
                asyncio.get_running_loop().call_later(delay, act, True)
            await asyncio.sleep(3600)
        if fault == "stubborn":
            late = False
            try:
                await asyncio.sleep(DEADLINE * weather.chance.uniform(0.5, 2.0))
            except asyncio.CancelledError:
                late = True
                await asyncio.sleep(weather.chance.uniform(0.0, 5.0))
            return act(late)
        if fault == "half":
            raise HalfDone
        result = act(False)
        if fault == "lost":
            raise ConnectionResetError("the answer was lost")
        if travel := weather.travel():
            await asyncio.sleep(travel)
        return result

    async def read(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        frames: Sequence[bytes | None] = await self._call("read", keys, lambda late: self.store.read(keys))
        return frames

    async def write(self, records: Sequence[Record]) -> Sequence[int]:
        def act(late: bool, records: Sequence[Record] = records) -> list[int]:
            return [self.store.put(self.process, record, late=late) for record in records]

        try:
            stamps: Sequence[int] = await self._call("write", [record.key for record in records], act)
        except HalfDone:
            act(False, records[: len(records) // 2])
            raise ConnectionResetError("half of it was done") from None
        return stamps

    async def delete(self, keys: Sequence[str]) -> Sequence[bool]:
        def act(late: bool, keys: Sequence[str] = keys) -> list[bool]:
            return [self.store.drop(self.process, key, late=late) for key in keys]

        try:
            there: Sequence[bool] = await self._call("delete", keys, act)
        except HalfDone:
            act(False, keys[: len(keys) // 2])
            raise ConnectionResetError("half of it was done") from None
        return there

    async def swap(self, record: Record, expected: int | None) -> bool:
        def act(late: bool) -> bool:
            return self.store.swap(self.process, record, expected, late=late)

        return bool(await self._call("swap", [record.key], act))

    async def increment(self, record: Record, delta: int) -> bytes:
        def act(late: bool) -> bytes:
            return self.store.increment(self.process, record, delta, late=late)

        return bytes(await self._call("increment", [record.key], act))

    async def scan(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        def act(late: bool) -> list[str]:
            return [key for key in self.store.rows if key.startswith(prefix)]

        keys = await self._call("scan", (), act)
        for start in range(0, len(keys), 2):
            yield keys[start : start + 2]
            await asyncio.sleep(self.weather.travel())

    async def wipe(self, prefix: str) -> None:
        await self._call("wipe", (), lambda late: self.store.wipe(self.process, prefix))

    async def marks(self) -> Mapping[str, int]:
        found: Mapping[str, int] = await self._call("marks", (), lambda late: dict(self.store.markers))
        return found

    async def mark(self, markers: Mapping[str, int], below: int) -> None:
        await self._call("mark", (), lambda late: self.store.mark(self.process, markers, below))


class PromptLine(Line):
    """The same, which can be read without a coroutine."""

    def __init__(self, process: str, store: Store, weather: Weather) -> None:
        super().__init__(process, store, weather)
        self._asked: set[asyncio.Task[Any]] = set()

    def read_soon(
        self, keys: Sequence[str], answered: Callable[[Sequence[bytes | None] | None], object]
    ) -> bool:
        if self.weather.chance.random() < 0.05:
            return False
        asked = asyncio.get_running_loop().create_task(self.read(keys))

        def done(_: Any) -> None:
            self._asked.discard(asked)
            answered(None if asked.cancelled() or asked.exception() else asked.result())

        self._asked.add(asked)
        asked.add_done_callback(done)
        return True

    async def close(self) -> None:
        for asked in (under_way := set(self._asked)):
            asked.cancel()
        if under_way:
            await asyncio.wait(under_way)


class HalfDone(Exception):
    """A batch ends in the middle."""


class SharedConfig(FarTierConfig):
    """A store that all processes share."""

    type: Literal["shared"] = "shared"

    def build(self, context: Context) -> Line:
        return BUILDING.get()(context.name)


class HostConfig(FarTierConfig):
    """A store that the processes of one host share."""

    type: Literal["host"] = "host"
    scope: ClassVar[Literal["shared", "host"]] = "host"

    def build(self, context: Context) -> Line:
        return BUILDING.get()(context.name)


@hookimpl
def tiercache_tiers() -> list[type[FarTierConfig]]:
    return [SharedConfig, HostConfig]
