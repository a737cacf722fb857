"""A bus in memory that tells late, twice, in another order, or not at all, and knows what it has missed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tiercache import BusConfig, Change, Context, FarTier, Listener, TierError, hookimpl

if TYPE_CHECKING:
    from model.schedules.storage import Line, Store, Weather

BEATS = 4
"""Heartbeats a lease."""


class Ether:
    """What the changes of one store are told by, with numbers that show a gap."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.radios: dict[int, Radio] = {}
        self.number = 0

    def send(self, kind: str, process: str, told: Any, weather: Weather) -> None:
        """Tell everybody; what is lost on the way leaves a gap in the numbers."""
        if kind != "beat":
            self.number += 1
        for radio in self.radios.values():
            bad = weather.badness and weather.chance.random() < weather.badness
            fault = weather.chance.choice(("lost", "late", "twice")) if bad else ""
            if fault == "lost" or weather.outage(radio.line.process, self.store.name):
                continue
            delay = weather.travel() + (3 * weather.chance.random() if fault == "late" else 0.0)
            for _ in range(2 if fault == "twice" else 1):
                message = (kind, process, self.number, told)
                self.store.loop.call_later(delay, radio.inbox.put_nowait, message)

    def forget(self) -> None:
        """Begin to count anew, from where no count has been."""
        self.number += 1_000_000


class Radio:
    """The bus of one process."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.last: int | None = None
        self.confirmed = 0.0

    async def follow(self, listener: Listener) -> None:
        ether = self.line.store.ether
        if self.line.weather.outage(self.line.process, ether.store.name):
            raise TierError("the air is dead")
        self.inbox = asyncio.Queue()
        self.last = None
        ether.radios[id(self)] = self
        listener.lost()
        self.confirmed = listener.now()
        tasks = [asyncio.create_task(self._hear(listener)), asyncio.create_task(self._speak(listener))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del ether.radios[id(self)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        raise TierError("no heartbeat has come back for a lease")

    async def close(self) -> None:
        """Nothing is kept."""

    async def _speak(self, listener: Listener) -> None:
        weather = self.line.weather
        while listener.now() - self.confirmed <= listener.lease:
            if not weather.outage(self.line.process, self.line.store.name):
                self.line.store.ether.send("beat", self.line.process, listener.now(), weather)
            await asyncio.sleep(listener.lease / BEATS)

    async def _hear(self, listener: Listener) -> None:
        while True:
            kind, process, number, told = await self.inbox.get()
            expected = number if self.last is None else self.last + (kind != "beat")
            if number > expected:
                listener.lost()
            self.last = max(number, self.last or 0)
            if process == self.line.process:
                if kind == "beat":
                    self.confirmed = max(told, self.confirmed)
                    listener.confirmed(told, number)
            elif kind == "change":
                listener.changed([Change(*told)])
            elif kind == "mark":
                listener.marked(told)


class RadioConfig(BusConfig):
    """Tells what changes in a store of the tests."""

    carries: ClassVar[str] = "shared"

    type: Literal["radio"] = "radio"

    def build(self, context: Context, tier: FarTier) -> Radio:
        from model.schedules.storage import Line

        assert isinstance(tier, Line)
        return Radio(tier)


@hookimpl
def tiercache_buses() -> list[type[BusConfig]]:
    return [RadioConfig]
