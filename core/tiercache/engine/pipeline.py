"""One route: read through its tiers, promote, write to all of them, degrade where one fails."""

from __future__ import annotations

import asyncio
import copy
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tiercache.clock import NEVER, Clock
from tiercache.contracts import Life, NearTier, Pattern
from tiercache.engine import calling, judging, saving
from tiercache.engine.codec import Decoder
from tiercache.engine.coherence import Coherence
from tiercache.engine.far import Far
from tiercache.engine.flights import Closing, Flights, Found, Probe
from tiercache.engine.keeping import Keeping
from tiercache.engine.locks.turns import Turns
from tiercache.engine.markers import Markers
from tiercache.engine.negatives import Negatives
from tiercache.engine.patterns import Supply, composed
from tiercache.engine.proof import Proof
from tiercache.engine.rules import Rules
from tiercache.engine.sliding import Slides
from tiercache.engine.stats import RouteCounts
from tiercache.engine.storing import Store, storing
from tiercache.engine.telemetry import Watch
from tiercache.entry import MISSING, Missing


class Route:
    """The tiers of a route, nearest first, and what its entries live by."""

    __slots__ = (
        "_others", "_proves", "alone", "authority", "behind", "chance", "clock", "coherence", "copies",
        "counts", "decoder", "direct", "fars", "flights", "house", "keeping", "life", "load", "markers",
        "name", "near", "negatives", "prefix", "reached", "rules", "save", "slides", "store", "supply",
        "turns", "watch", "watchers",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        *,
        namespace: str,
        near: NearTier | None,
        fars: Sequence[Far],
        life: Life,
        copies: bool,
        decoder: Decoder,
        clock: Clock,
        patterns: Sequence[Pattern] = (),
        rules: Rules | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.near = near
        self.fars = tuple(fars)
        self.life = life
        self.copies = copies
        self.decoder = decoder
        self.clock = clock
        self.counts = RouteCounts()
        self.supply = Supply.of(patterns)
        self.rules = rules or Rules()
        ahead = self.supply.ahead if self.supply is not None and self.rules.sliding is None else None
        if ahead is not None and self.rules.refresh_ahead is None:
            self.rules = replace(self.rules, refresh_ahead=ahead)
        self.keeping = Keeping(name, near, clock, self.rules)
        self.slides: Slides | None = None
        """What lets entries live on that are read, where the route asks for it."""
        if self.rules.sliding is not None:
            self.slides = Slides(self, self.rules.sliding)
            self.keeping.slide(self.slides, alone=not self.fars)
        self.negatives = Negatives(near, clock, self.rules)
        self.markers = Markers()
        """What was invalidated; the house's own, once it is built."""
        self.chance = chance
        self.flights = Flights()
        self.authority: Far | None = next(
            (far for far in self.fars if far.scope == "shared"), self.fars[0] if self.fars else None
        )
        """The one tier that answers what must not be guessed; None: the near tier."""
        self._proves = self.rules.coherent and self.authority is not None
        self.coherence: Coherence | None = None
        """What others' changes to the authority are known by."""
        self.behind: tuple[Far, ...] = ()
        """Tiers of this host behind a shared authority: they hold what it held once."""
        if self.authority is not None and self.authority.scope == "shared":
            place = self.fars.index(self.authority)
            self.behind = tuple(far for far in self.fars[place + 1 :] if far.scope == "host")
        self.watch: Watch | None = None
        """Whom to tell of loads and far calls; None where nobody listens."""
        self.turns: Turns | None = None
        """Where one process at a time loads a key: what lets it."""
        if self.rules.lock and self.authority is not None and self.authority.leases is not None:
            self.turns = Turns(self, self.authority, self.authority.leases)
        self.load, self.save, self.watchers = composed(patterns, calling.load, self._save)
        self.direct = bool(fars) and near is None and self.supply is None and not self.watchers
        self.prefix = f"{namespace}:"
        self._others: tuple[tuple[NearTier, ...], tuple[Far, ...]] = ((), ())
        self.alone = True
        """Whether no other tier of the cache may hold a key of this route."""
        self.reached: tuple[Far, ...] = self.fars
        """All far tiers that a change here reaches."""
        self.house: tuple[Flights, ...] = (self.flights,)
        self.store: Store | None = None

    def know(
        self,
        routes: Sequence[Route],
        nears: Sequence[NearTier],
        fars: Sequence[Far],
        closing: Closing,
        markers: Markers,
        coherences: Sequence[Coherence],
    ) -> None:
        """Take note of all that the cache has: a key that changes here changes for every route."""
        self.flights.closing = closing
        self.markers = markers
        self.coherence = self.keeping.coherence = next(
            (coherence for coherence in coherences if coherence.far is self.authority), None
        )
        self.house = tuple(route.flights for route in routes)
        self._others = (
            tuple(near for near in nears if near is not self.near),
            tuple(far for far in fars if far not in self.fars),
        )
        self.alone = not any(self._others)
        self.reached = (*self.fars, *self._others[1])
        self.compose()

    def compose(self) -> None:
        """Choose what a set comes to; to be done again where the rules, or those of the near tier, change."""
        self.store = storing(self, alone=self.alone and self.save == self._save)

    def address(self, key: str) -> str:
        """Return *key* as far tiers know it."""
        return self.prefix + key

    def moment(self) -> float:
        """Return now, in the seconds of `Coherence.now`."""
        return 0.0 if self.coherence is None else self.coherence.now()

    @property
    def clamped(self) -> bool:
        """Whether a near copy may live shorter than its entry."""
        if not self.fars or self.near is None:
            return False
        return self.slides is not None or self.near.max_ttl != math.inf

    def remaining(self, found: Found) -> float:
        """Return for how many seconds *found* stays fresh."""
        if found.fresh_until >= NEVER:
            return math.inf
        return (found.fresh_until - self.clock.micros()) / 1_000_000

    def lives(self, key: str, found: Found) -> bool:
        """Whether *found*, a stale copy, may still be served."""
        return self.clock.micros() < found.stale_until and not self.markers.killed(
            key, found.tags, found.created_at
        )

    def due(self, found: Found) -> bool:
        """Whether *found* is so old that a read of it starts a refresh."""
        share = self.rules.refresh_ahead
        if share is None or found.fresh_until >= NEVER:
            return False
        life = found.fresh_until - found.created_at
        return self.clock.micros() >= found.created_at + int(life * share)

    async def read(self, key: str, *, reading: bool = True) -> Found | Missing:
        """Return the fresh entry of *key* from the nearest far tier that has one."""
        load = self.flights.loads.get(key)
        if load is not None and load.landed is not MISSING:
            # A load whose far writes are still under way: its callers have the value, so has everybody.
            until = self.until(load.life.ttl)
            return Found(load.landed, self.clock.micros(), until, until, load.life.tags)
        return await self.probe(key, reading=reading).join() if self.fars else MISSING

    def stood_in(self, probe: Probe) -> Found | Missing:
        """Return the stale copy of the near tier that stands in where *probe* was answered by no far tier."""
        if self.near is None or probe.failures < len(self.fars) or probe.detached:
            return MISSING
        found = self.keeping.stale_copy(probe.key)
        if found is MISSING or not self.lives(probe.key, found):
            return MISSING
        self.counts.stale_served += 1
        return found

    def probe(self, key: str, *, reading: bool = True) -> Probe:
        """Return the far read that is under way for *key*, or start one. Not *reading*: it is a mere look."""
        flights = self.flights
        probe = Proof(self, key).start() if self._proves else flights.probes.get(key)
        if probe is None:
            probe = flights.probes[key] = Probe(self, key)
            self.fars[0].reads.submit(probe.address, probe)
        if reading:
            probe.reading = True
        return probe

    judge = judging.judge
    judge_all = judging.judge_all
    loaded = saving.loaded
    _save = saving.save
    head = judging.head

    def detach(self, key: str) -> None:
        """Let nothing that is under way for *key* be stored."""
        for under_way in self.house:
            if under_way.probes or under_way.loads:
                under_way.detach(key)

    def forget(self, key: str) -> None:
        """Drop *key* from the near tier, and let nothing that is under way for it be stored."""
        self.detach(key)
        if self.near is not None:
            self.near.remove(key)

    def drop_elsewhere(self, key: str, *, but: Far | None = None) -> list[asyncio.Future[bool | None]]:
        """Drop *key* from the tiers of other routes; with *but*, from all tiers but that one."""
        nears, fars = self._others
        for near in nears:
            near.remove(key)
        if but is not None:
            fars = (*fars, *(far for far in self.fars if far is not but))
        if not fars:
            return []
        address = self.address(key)
        return [far.writes.delete(address) for far in fars]

    def check_stale(self, stale: float) -> None:
        """Raise ValueError where values can't be kept as stale copies: they end when nobody has read them."""
        if stale and self.slides is not None:
            raise ValueError(
                f'stale={stale} on route "{self.name}", which is sliding: no stale copies are kept'
            )

    def term(self, life: Life) -> tuple[int, int, int]:
        """Return until when what is stored now is fresh, and may serve as a stale copy; where reads lengthen
        that, the time beyond which they don't, else 0.
        """
        end = self.until(life.ttl)
        if self.slides is None or life.ttl <= self.slides.window:
            # Two looks at the clock would leave a stale window of a microsecond where there is to be none.
            return end, self.until(life.ttl + life.stale) if life.stale else end, 0
        fresh_until = self.until(self.slides.window)
        return fresh_until, fresh_until, end

    def until(self, seconds: float) -> int:
        """Return the wall time that is *seconds* away, in microseconds."""
        if seconds == math.inf:
            return NEVER
        return min(self.clock.micros() + int(seconds * 1_000_000), NEVER)

    def own(self, value: Any) -> Any:
        """Return *value*, or a copy of it where this route promises one to everybody."""
        return copy.deepcopy(value) if self.copies else value
