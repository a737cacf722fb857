"""What a frame that a far tier holds is worth: a hit, a stale copy, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tiercache.engine.coherence import Coherence
from tiercache.engine.far import Far
from tiercache.engine.flights import Found, Probe
from tiercache.engine.tasks import settle
from tiercache.entry import MISSING, Missing
from tiercache.errors import Undecodable, Unserializable
from tiercache.frame import COUNTER, SEALED, TOMBSTONE, Head

if TYPE_CHECKING:
    from tiercache.engine.batching import Arrival
    from tiercache.engine.pipeline import Route


_tuple = tuple.__new__


def judge(route: Route, probe: Probe, frame: bytes | None, arrival: Arrival) -> Found | Missing:
    """Return what *frame*, which the tier at the probe's level holds, is worth now."""
    far = route.fars[probe.level]
    counts = far.guard.counts
    if frame is not None:
        address = probe.address.encode()
        now, coherence = arrival.now, route.coherence
        try:
            standing = head(route, far, address, frame)
            if coherence is not None and far in route.behind:
                probe.buried = max(probe.buried, coherence.outdated.get(probe.address, 0))
            if standing.flags & TOMBSTONE:
                # Its stamp and not its date: it may have taken the place of a later tombstone.
                probe.buried = max(probe.buried, standing.stamp)
            elif (
                standing.created_at > probe.buried
                and now < standing.stale_until
                and not route.markers.killed(probe.key, standing.tags, standing.created_at)
            ):
                value = route.decoder.value(address, frame, standing)
                route.clock.observe(standing.stamp)
                # The class's own way in is a function written in Python, and takes twice as long.
                found = _tuple(
                    Found,
                    (
                        value, standing.created_at, standing.fresh_until, standing.stale_until, standing.tags,
                        standing.end,
                    ),
                )  # fmt: skip
                certain = coherence is None or _certain(coherence, route, far, found, arrival)
                if certain and now < standing.fresh_until:
                    counts.hits += 1
                    if probe.level and not probe.detached:
                        _promote(route, probe, standing, frame, found)
                    if found.end and route.slides is not None and probe.reading and not probe.detached:
                        found = route.slides.noted(probe.key, found)
                    return found
                allowed = certain or found.fresh_until < found.stale_until
                if allowed and (probe.stale is MISSING or probe.stale.created_at < found.created_at):
                    probe.stale = found
        except Undecodable:
            counts.corrupt += 1
            if not probe.detached:
                far.writes.delete(probe.address)
    counts.misses += 1
    return MISSING


def _certain(coherence: Coherence, route: Route, far: Far, found: Found, arrival: Arrival) -> bool:
    """Whether *found* is known not to be out of date: otherwise it is a stale copy at best."""
    if far in route.behind:
        return coherence.certain(far, found.created_at)
    return far is not route.authority or informed(coherence, arrival)


def judge_all(
    route: Route, probes: Sequence[Probe], frames: Sequence[bytes | None], arrival: Arrival
) -> None:
    """Let *probes* take what the first tier of *route* had for them, and finish those that found something.

    What most reads find, plain entries that are fresh, is judged and handed out in two loops; whatever else
    there is takes the way of a single frame, which makes the same checks. Must not raise.
    """
    far, coherence = route.fars[0], route.coherence
    # The first tier has nothing to promote to, and stands behind no other.
    addresses = [probe.address for probe in probes if probe.route is route and not probe.level]
    if (
        len(addresses) < len(probes)
        or far.codec.seals
        or not (coherence is None or far is not route.authority or informed(coherence, arrival))
    ):
        for probe, frame in zip(probes, frames, strict=True):
            probe.land(frame, arrival, failed=False)
        return
    clock = route.clock
    try:
        founds, stamps = route.decoder.fresh(addresses, frames, route.markers.newest, arrival.now, clock.last)
    except Exception:  # noqa: BLE001 - `land` meets it again, where it ends one read and not all
        founds, stamps = [None] * len(probes), []
    for stamp in stamps:
        clock.observe(stamp)
    try:
        route.keeping.keep_all(probes, founds, arrival)
    except Exception:  # noqa: BLE001 - `land` meets it again where it is, and says so
        founds = [None] * len(probes)
    flights, woken = route.flights.probes, arrival.woken
    late: list[Probe] = []
    for probe, frame, found in zip(probes, frames, founds):  # noqa: B905 - of a lone read it is a tenth
        if found is None:
            late.append(probe)
            probe.land(frame, arrival, failed=False)
            continue
        key = probe.key
        if (joined := flights.pop(key, None)) is not probe and joined is not None:
            # Begun after this one was detached.
            flights[key] = joined
        settle(probe.waiters, found, woken)
        if probe.loads:
            for load in probe.loads:
                load.probed(found, probe.stale)
    far.guard.counts.hits += len(probes) - len(late)
    patterns = route.counts.patterns.declared
    keys = [probe.key for probe in probes if probe not in late] if patterns else ()
    route.counts.answered(len(probes) - len(late), keys)


def informed(coherence: Coherence, arrival: Arrival) -> bool:
    """Whether the markers of the tier that *arrival* came from are known; the lease is asked once a batch."""
    if arrival.trusted is not coherence and coherence.bus is not None and coherence.trust.holds():
        arrival.trusted = coherence
    return arrival.trusted is coherence or coherence.informed()


def head(route: Route, far: Far, address: bytes, frame: bytes) -> Head:
    """Return the head of a frame that *far* holds, checked. Raises Undecodable.

    Where a tier's serializer seals, what came without a seal was written by somebody else. Counters
    carry none, so that the tier itself can raise them.
    """
    found = route.decoder.head(address, frame)
    if far.codec.seals and not found.flags & (SEALED | COUNTER | TOMBSTONE):
        raise Undecodable(f"tier {far.name} holds sealed entries, and this one has no seal")
    return found


def _promote(route: Route, probe: Probe, standing: Head, frame: bytes, found: Found) -> None:
    """Copy an entry to the nearer far tiers, with its own stamps, where nothing newer stands."""
    for far in route.fars[: probe.level]:
        copied = frame
        serializer, compressor = far.codec.name
        if standing.serializer not in {"", serializer} or standing.compressor not in {"", compressor}:
            try:
                copied = far.codec.encode(
                    probe.address.encode(), found.value, found.created_at, found.fresh_until,
                    found.stale_until, found.tags, found.end,
                )  # fmt: skip
            except Unserializable:
                # Written when the tiers spoke otherwise: this tier's serializer can't carry it.
                continue
        far.writes.write(far.record(probe.address, copied, found.stale_until, conditional=True))
        far.guard.counts.promotions += 1
