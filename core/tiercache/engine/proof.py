"""Reads of routes that must not be stale: the authority is asked each time, by the head of the frame alone
where a near copy may still be what it holds.

Nobody joins such a read: one that began before may have been answered before the change that the other one
must see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from tiercache.engine.batching import Arrival
from tiercache.engine.flights import Found, Probe
from tiercache.frame import COUNTER, HEADER, SLIDING, TOMBSTONE


class Proof(Probe):
    """A read that begins at the authority, with the question whether the near copy still holds."""

    __slots__ = ()

    def start(self) -> Self:
        """Ask the authority, past all tiers that are nearer."""
        route = self.route
        assert route.authority is not None
        route.flights.probes[self.key] = self
        self.level = route.fars.index(route.authority)
        if route.authority.heads is None:
            route.authority.reads.submit(self.address, self)
        else:
            route.authority.heads.submit(self.address, _Asked(self))
        return self

    def told(self, head: bytes | None, arrival: Arrival, *, failed: bool) -> None:
        """Go on with what the authority says of its frame."""
        if failed or head is None:
            self.land(None, arrival, failed=failed)
            return
        found = self._same(head)
        if found is None:
            self.route.fars[self.level].reads.submit(self.address, self)
            return
        route = self.route
        route.fars[self.level].guard.counts.hits += 1
        route.counts.landed(self.key, self.level, hit=True, failed=False)
        self.finish(found, arrival)

    def _same(self, head: bytes) -> Found | None:
        """Return the near copy where *head* is of the very entry, and it is alive."""
        route = self.route
        entry = route.keeping.candidate(self.key)
        if entry is None or len(head) != HEADER.size:
            return None
        fields: tuple[Any, ...] = HEADER.unpack(head)
        flags, created_at, fresh_until, stale_until = fields[3], fields[7], fields[8], fields[9]
        # A counter is raised without being created anew.
        if created_at != entry.created_at or flags & (TOMBSTONE | COUNTER):
            return None
        tags = tuple(route.near.tags(self.key)) if route.near is not None else ()
        if route.clock.micros() >= fresh_until or route.markers.killed(self.key, tags, created_at):
            return None
        if flags & SLIDING:
            return Found(entry.value, created_at, fresh_until, fresh_until, tags, stale_until)
        return Found(entry.value, created_at, fresh_until, stale_until, tags)


class _Asked:
    """Takes the head of a frame for a `Proof`, which takes frames itself."""

    __slots__ = ("_proof",)

    def __init__(self, proof: Proof) -> None:
        self._proof = proof

    @property
    def origin(self) -> Any:
        """The span that the proof belongs to."""
        return self._proof.origin

    def land(self, frame: bytes | None, arrival: Arrival, *, failed: bool) -> None:
        """Hand it on."""
        self._proof.told(frame, arrival, failed=failed)

    @staticmethod
    def land_all(landings: Sequence[_Asked], frames: Sequence[bytes | None], arrival: Arrival) -> None:
        """Hand each on."""
        for landing, frame in zip(landings, frames, strict=True):
            landing.land(frame, arrival, failed=False)
