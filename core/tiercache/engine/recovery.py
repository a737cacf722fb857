"""What a far tier was not told, kept until it can be made good.

A set or a delete that was acknowledged although a tier was away leaves the old value standing there. Until
the tier has heard of it, the tier is a miss for that key; once it answers again, the last operation of each
key is made good: a write only where nothing newer stands, a delete only of what is older than itself, for
other processes went on meanwhile.

All of it is in the memory of this process. Whoever kills it (`kill -9`) while a tier is away loses what
waits, and the tier goes on with what it held: entries that were set or deleted meanwhile are served in their
old form until their time is over. So do operations that still wait when a cache is closed.
"""

from __future__ import annotations

import logging
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from tiercache.clock import Clock
from tiercache.contracts import Record
from tiercache.engine.codec import tombstone
from tiercache.engine.guard import FRAMES, NUMBERS, Guard, answers
from tiercache.errors import Undecodable
from tiercache.frame import TOMBSTONE, restamped, stamp_of, unpack

log = logging.getLogger("tiercache.tier")

MOST: Final = 10_000
"""Operations that may wait for a tier; beyond that all it holds is given up."""
MOST_BYTES: Final = 32 * 2**20
"""Bytes of frames that may wait; beyond that the oldest values are given up, and only their keys wait."""
BATCH: Final = 256
"""Keys made good in one step, between which other writes have their turn."""
PAUSE: Final = 1.0
"""Seconds after a step that failed; chance takes off up to a quarter."""
REFUSALS: Final = 5
"""Refusals after which a value is given up, and only its key goes on waiting."""
BURIED_FOR: Final = 60.0
"""Seconds for which a delete that was made good is remembered in the tier."""


class _Missed(NamedTuple):
    address: str
    stamp: int
    record: Record | None
    """None: a delete."""
    refused: int = 0
    """How often the tier could be read, but did not take it."""


class Recovery:
    """The operations that wait for one far tier."""

    __slots__ = (
        "_batch", "_bytes", "_chance", "_clock", "_deletes", "_empty", "_guard", "_most", "_most_bytes",
        "_overflowed", "_retry_at", "_swap", "_writes", "any", "given_up", "overflowed", "whole",
    )  # fmt: skip

    def __init__(
        self,
        guard: Guard,
        clock: Clock,
        *,
        swap: Callable[[Record, int | None], Awaitable[bool]] | None,
        empty: Callable[[], Awaitable[object]] | None,
        most: int = MOST,
        most_bytes: int = MOST_BYTES,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.whole = False
        """Whether nothing in the tier may be believed until it has been emptied."""
        self.any = False
        """Whether anything waits."""
        self.given_up: Callable[[], None] | None = None
        """Called where a call of `replay` goes on although it was cancelled."""
        self.overflowed: Callable[[], None] | None = None
        """Called before the tier is believed again that was not told of what there was no room for."""
        self._guard = guard
        self._clock = clock
        self._swap = swap
        self._empty = empty
        self._most = most
        self._most_bytes = most_bytes
        self._chance = chance
        self._writes: OrderedDict[str, _Missed] = OrderedDict()
        self._deletes: OrderedDict[str, _Missed] = OrderedDict()
        self._bytes = 0
        self._batch = BATCH
        self._retry_at = 0.0
        self._overflowed = False

    def __len__(self) -> int:
        return len(self._writes) + len(self._deletes) + self.whole

    def hides(self, address: str) -> bool:
        """Whether what the tier holds under *address* may be older than what was promised."""
        return self.whole or address in self._writes or address in self._deletes

    def addresses(self) -> list[str]:
        """Return the addresses of what waits."""
        return [*self._writes, *self._deletes]

    def due(self) -> bool:
        """Whether something waits, and the tier may be asked now."""
        return len(self) > 0 and self._clock.monotonic() >= self._retry_at and not self._guard.barred()

    def outdates(self, record: Record) -> bool:
        """Whether something that waits is as new as *record*, or newer."""
        missed = self._of(record.key)
        return self.whole or (missed is not None and missed.stamp >= record.stamp)

    def written(self, record: Record) -> None:
        """Take note that the tier has stored *record*, which is newer than what waited."""
        if self.any:
            self._drop(record.key)

    def deleted(self, address: str) -> None:
        """Take note that the tier has dropped *address*."""
        self._drop(address)

    def miss_write(self, record: Record) -> None:
        """Keep *record*, which the tier may not have stored.

        A conditional one carries what can be had again, so it only takes the place of something older.
        """
        if record.conditional and (not self.hides(record.key) or self.outdates(record)):
            return
        if record.conditional:
            # Its lease will be over; stamps tell whether it is still to be stored.
            record = record._replace(lease=b"")
        self._drop(record.key)
        self.any = True
        self._writes[record.key] = _Missed(record.key, record.stamp, record)
        self._bytes += len(record.frame)
        while self._bytes > self._most_bytes:
            self._reduce(next(iter(self._writes.values())))
        self._bound()

    def miss_delete(self, address: str, stamp: int) -> None:
        """Keep a delete, asked for at *stamp*, that the tier may not have heard of."""
        self._drop(address)
        self.any = True
        self._deletes[address] = _Missed(address, stamp, None)
        self._bound()

    def miss_wipe(self) -> None:
        """Believe nothing in the tier until it has been emptied; whatever waits by now is part of that.

        What is missed from now on waits behind it: another process may put back what was emptied.
        """
        self.whole = self.any = True
        self._writes.clear()
        self._deletes.clear()
        self._bytes = 0

    async def replay(self, only: str | None = None) -> None:
        """Make good what waited longest; with *only*, that key. Whatever fails goes on waiting."""
        if self.whole:
            await self._wipe()
            return
        if only is not None:
            missed = self._of(only)
            chosen = [missed] if missed is not None else []
        else:
            chosen = [*self._writes.values()][: self._batch]
            chosen += [*self._deletes.values()][: self._batch - len(chosen)]
        if chosen and not await self._compared(chosen):
            self._put_off()

    async def _wipe(self) -> None:
        if self._empty is None or await self._guard.wipe(self._empty, self.given_up) is None:
            self._put_off()
            return
        if self._overflowed and self.overflowed is not None:
            self.overflowed()
        self.whole = self._overflowed = False
        self.any = len(self) > 0

    async def _compared(self, chosen: Sequence[_Missed]) -> bool:
        """Make good all of *chosen*; return whether nothing is left of it."""
        guard = self._guard
        frames = await self._ask(answers, guard.tier.read, [missed.address for missed in chosen], FRAMES)
        if frames is None:
            return False
        writes: list[tuple[_Missed, Record]] = []
        deletes: list[tuple[_Missed, int]] = []
        for missed, frame in zip(chosen, frames, strict=True):
            if _newer(frame, missed):
                self._settle(missed)
            elif missed.record is not None and missed.record.expires_at > self._clock.micros():
                writes.append((missed, _above(missed.record, frame)))
            elif frame is None:
                # Another process may have something older yet to be made good: it must find this.
                buried = self._tombstone(missed, missed.stamp)
                writes.append((missed, buried._replace(conditional=True, news=True)))
            else:
                # A value whose own time is over leaves nothing to write, but what it replaced must go.
                deletes.append((missed, stamp_of(frame)))
        wrote = not writes or await self._write(writes)
        dropped = not deletes or await self._delete(deletes)
        if wrote and dropped:
            self._batch = min(self._batch * 2, BATCH)
        else:
            self._narrow(chosen)
        return all(self._of(missed.address) is not missed for missed in chosen)

    async def _write(self, writes: Sequence[tuple[_Missed, Record]]) -> bool:
        guard = self._guard
        stamps = await self._ask(answers, guard.tier.write, [record for _, record in writes], NUMBERS)
        if stamps is None:
            return False
        for (missed, _), stamp in zip(writes, stamps, strict=True):
            if stamp:
                guard.counts.writes += missed.record is not None
                self._settle(missed)
        return True

    async def _delete(self, deletes: Sequence[tuple[_Missed, int]]) -> bool:
        guard = self._guard
        if self._swap is None:
            addresses = [missed.address for missed, _ in deletes]
            if await self._ask(answers, guard.tier.delete, addresses, NUMBERS) is None:
                return False
            for missed, _ in deletes:
                guard.counts.deletes += 1
                self._settle(missed)
            return True
        for missed, standing in deletes:
            record = self._tombstone(missed, max(missed.stamp, standing + 1))
            swapped = await self._ask(self._swap, record, standing)
            if swapped is None:
                return False
            if swapped:
                guard.counts.deletes += 1
                self._settle(missed)
        return True

    def _tombstone(self, missed: _Missed, stamp: int) -> Record:
        expires_at = self._clock.micros() + int(BURIED_FOR * 1_000_000)
        frame = tombstone(missed.address.encode(), missed.stamp, expires_at)
        return Record(missed.address, restamped(frame, stamp), expires_at, stamp)

    async def _ask(self, act: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        return await self._guard.call(act, *arguments, given_up=self.given_up)

    def _narrow(self, chosen: Sequence[_Missed]) -> None:
        """Single out what the tier, which can be read, refuses to take, so that it holds nothing else up."""
        self._batch = max(len(chosen) // 2, 1)
        (missed, *others) = chosen
        if others or self._of(missed.address) is not missed:
            return
        self._drop(missed.address)
        self.any = True
        missed = missed._replace(refused=missed.refused + 1)
        if missed.record is None or missed.refused >= REFUSALS:
            self._deletes[missed.address] = missed._replace(record=None)
        else:
            self._writes[missed.address] = missed
            self._bytes += len(missed.record.frame)

    def _reduce(self, missed: _Missed) -> None:
        """Give up the value of *missed*: what it replaced must go all the same. Last in the queue."""
        self._drop(missed.address)
        self.any = True
        self._deletes[missed.address] = missed._replace(record=None)

    def _settle(self, missed: _Missed) -> None:
        # Not where something else took its place meanwhile.
        if self._of(missed.address) is missed:
            self._drop(missed.address)

    def _of(self, address: str) -> _Missed | None:
        return self._writes.get(address) or self._deletes.get(address)

    def _drop(self, address: str) -> None:
        self._deletes.pop(address, None)
        missed = self._writes.pop(address, None)
        if missed is not None and missed.record is not None:
            self._bytes -= len(missed.record.frame)
        self.any = len(self) > 0

    def _bound(self) -> None:
        if len(self) > self._most:
            log.warning(
                "tier %s missed more than %d writes: it misses everything until it is back and emptied",
                self._guard.name,
                self._most,
                extra={"tiercache_tier": self._guard.name},
            )
            self.miss_wipe()
            self._overflowed = True

    def _put_off(self) -> None:
        self._retry_at = self._clock.monotonic() + PAUSE * (1 - self._chance() / 4)


def _newer(frame: bytes | None, missed: _Missed) -> bool:
    """Whether *frame* was made after what waits, or is it.

    Judged by when it was made, not by the stamp in front: a write of ours that was given up may have arrived
    after all, and a tier raises the stamps of those. A tombstone stands for all that it replaced, though,
    which was older than its stamp: where that was a tombstone too, of a later delete, so is this.
    """
    if frame is None:
        return False
    try:
        head = unpack(missed.address.encode(), frame)
    except Undecodable:
        return False
    return (head.stamp if head.flags & TOMBSTONE else head.created_at) >= missed.stamp


def _above(record: Record, frame: bytes | None) -> Record:
    """Return *record* so that it is stored only where *frame* still stands, or nothing does."""
    stamp = record.stamp if frame is None else max(record.stamp, stamp_of(frame) + 1)
    return record._replace(frame=restamped(record.frame, stamp), stamp=stamp, conditional=True, news=True)
