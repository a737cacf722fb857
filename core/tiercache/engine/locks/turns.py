"""One load a key in all processes: whoever has the lease loads, the others wait for what it stores.

The lease is protection against stale results as well, as in memcached at Facebook (Nishtala et al.,
"Scaling Memcache at Facebook", NSDI 2013). What guards what:

- Within the process, a write or an invalidation of the key detaches its flight: see `flights`.
- Between processes, stamps: what a load brings carries the stamp of when it began, and is stored only where
  nothing newer stands, tombstones of deletes included. That holds as far as clocks agree, and for as long as
  a tombstone lasts.
- So a `set` or a `delete` also voids the lease of its key, in one act with itself, and the result of a load
  whose lease was voided is not stored, whatever the clocks say and however long it took. A plain delete, as a
  `set` on another route makes, and `add`, `touch` and `increment` void it right before.
- Invalidations by tag, prefix, and of everything are judged by their markers; `clear` ends all leases, too.

A lease that merely ran out, because the event loop was blocked or a load took longer than `HELD`, says
nothing about the key. Its result is stored by the rule of the stamps, as without a lease.

A tier that fails makes nobody wait: then each process loads for itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

from tiercache.contracts import Record
from tiercache.engine.flights import Found
from tiercache.engine.locks.leases import Lease, Leases
from tiercache.engine.tasks import begin
from tiercache.entry import MISSING, Missing

if TYPE_CHECKING:
    from tiercache.engine.far import Far
    from tiercache.engine.loads import Load
    from tiercache.engine.pipeline import Route

log = logging.getLogger("tiercache.engine")

LIFE: Final = 10.0
"""Seconds after which the lease of a process that died is over. A living one prolongs it."""
HELD: Final = 60.0
"""Seconds for which a load holds its lease, or the hard timeout where that is longer: a loader that hangs in
one process must not hold up all others for ever.
"""
LEAST: Final = 0.01
"""Seconds before who waits looks again for the first time."""
RARELY: Final = 0.5
"""Seconds between two looks at most."""

Turn = Lease | Found | Literal[False] | None


class Turns:
    """The leases that the loads of one route take."""

    __slots__ = ("_chance", "_far", "_leases", "_most", "_route")

    def __init__(
        self, route: Route, far: Far, leases: Leases, *, chance: Callable[[], float] = random.random
    ) -> None:
        self._route = route
        self._far = far
        self._leases = leases
        self._chance = chance
        self._most = max(HELD, route.rules.hard_timeout or 0.0)
        far.writes.voids = leases.tier

    async def run(self, load: Load, nested: bool) -> None:
        """Be the task of *load*: wait for its turn, or for somebody else's result.

        One that is *nested* in another load waits for at most `LIFE`: two processes that each wait for what
        the other loads would wait for ever.
        """
        try:
            found = await self._enter(load, LIFE if nested else math.inf)
            if found is not MISSING:
                load.answer(found.value)
                return
            self._attach(load)
            await load.run()
        except asyncio.CancelledError:
            load.cancelled()
            raise
        finally:
            self.give_back(load.lease)

    async def claimed(self, keys: Sequence[str]) -> dict[str, Turn]:
        """Ask once for the leases of *keys*.

        Return for each the lease, what has been stored meanwhile, False where another process loads it, or
        None where the tier can't answer.
        """
        asked = {key: self._ask(key) for key in keys}
        try:
            turns: dict[str, Turn] = {key: await brought for key, brought in asked.items()}
            looks = {key: self._look(key) for key, turn in turns.items() if turn}
            for key, found in zip(looks, await asyncio.gather(*looks.values()), strict=True):
                if found is not MISSING:
                    self._leases.drop(asked[key])
                    turns[key] = found
        except BaseException:
            for brought in asked.values():
                self._leases.drop(brought)
            raise
        return turns

    def give_back(self, lease: object) -> None:
        """End *lease*, where it is one and not over yet."""
        if isinstance(lease, Lease) and not lease.ended:
            self._leases.give_back(lease)

    def store(self, load: Load, records: Mapping[Far, Record]) -> list[asyncio.Future[Any]]:
        """Store what *load*, which has a lease, brought; return what must be awaited."""
        task = begin(self._store(load, records), "tiercache-store")
        self._route.flights.running.add(task)
        task.add_done_callback(self._route.flights.running.discard)
        return [task]

    async def _store(self, load: Load, records: Mapping[Far, Record]) -> None:
        lease = load.lease
        assert lease is not None
        record = records[self._far]
        if lease.refused:
            self._forget(load, record)
            return
        leased = lease.held
        if leased:
            record = record._replace(lease=lease.claim.token)
        stamp = await self._far.writes.write(record)
        if leased and stamp:
            self._leases.forget(lease)
        if stamp == -1:
            self._forget(load, record)
        elif not load.detached:
            # In this order: what must not stand in the authority must stand nowhere.
            others = [far.writes.write(other) for far, other in records.items() if far is not self._far]
            if others:
                await asyncio.wait(others)

    def _forget(self, load: Load, record: Record) -> None:
        """Drop the near copy of what was out of date before it could be stored."""
        near = self._route.near
        entry = near.get(load.key) if near is not None else None
        if near is not None and entry is not None and entry.created_at == record.stamp:
            near.remove(load.key)

    def _attach(self, load: Load) -> None:
        """Let *load* be joined again where its key changed while it waited, and it has not begun yet."""
        loads = self._route.flights.loads
        if load.detached and not load.began and load.key not in loads:
            load.renew()
            loads[load.key] = load

    async def _enter(self, load: Load, patience: float) -> Found | Missing:
        """Return once it is the turn of *load*, which then has its lease, or what another process stored.

        MISSING without a lease: it loads by itself.
        """
        if load.lease is not None:
            return MISSING
        loop = asyncio.get_running_loop()
        began = loop.time()
        if not load.looks:
            # What is cached, and what others are loading already, is too old for it.
            await self._void(load.key)
        while True:
            brought = self._ask(load.key)
            try:
                turn = await brought
            except asyncio.CancelledError:
                self._leases.drop(brought)
                raise
            if turn is None:
                return MISSING
            load.lease = turn or None
            if not load.looks:
                return MISSING
            # Also with the lease: it may have been stored and given back since the far tiers were asked.
            found = await self._look(load.key)
            if found is not MISSING and not load.tired(found):
                return found
            if turn:
                return MISSING
            if (fresh := load.kept()) is not None:
                return fresh
            waited = loop.time() - began
            if waited >= patience:
                return MISSING
            pause = min(max(LEAST, waited / 8), RARELY, patience)
            await asyncio.sleep(pause * (0.5 + self._chance() / 2))

    def _ask(self, key: str) -> asyncio.Future[Lease | Literal[False] | None]:
        return self._leases.ask(self._route.address(key), LIFE, most=self._most)

    async def _void(self, key: str) -> None:
        await self._far.guard.call(self._leases.tier.void, [self._route.address(key)])

    async def _look(self, key: str) -> Found | Missing:
        """Read *key* from the far tiers, by a read that begins now."""
        under_way = self._route.flights.probes.get(key)
        if under_way is not None and (found := await under_way.join()) is not MISSING:
            return found
        return await self._route.probe(key).join()


@asynccontextmanager
async def claimed(keys: Iterable[tuple[str, Route]]) -> AsyncIterator[dict[str, Turn]]:
    """Ask for the leases of *keys* at once, where their routes have any, and give the turn of each.

    What is still in the result at the end is given back.
    """
    wanted: defaultdict[Turns, list[str]] = defaultdict(list)
    turns: dict[str, Turn] = {}
    for key, route in keys:
        if route.turns is not None:
            wanted[route.turns].append(key)
    try:
        for lender, names in wanted.items():
            turns |= await lender.claimed(names)
        yield turns
    finally:
        for lender, names in wanted.items():
            for name in names:
                lender.give_back(turns.get(name))


def leads(route: Route, key: str, turns: Mapping[str, Turn]) -> bool:
    """Whether *key* is to be loaded here and now: no other process does, nor another load of this one."""
    turn = turns.get(key)
    return (turn is None or isinstance(turn, Lease)) and key not in route.flights.loads
