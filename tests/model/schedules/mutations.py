"""Engines with one line gone, each of which the schedules must notice: proof that the checks can fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from tiercache.engine import authority, recovery
from tiercache.engine.coherence import Coherence
from tiercache.engine.deadlines import Deadlines
from tiercache.engine.far import Far
from tiercache.engine.flights import Flights
from tiercache.engine.hearing import Hearing
from tiercache.engine.invalidation import Invalidation
from tiercache.engine.ledger import Ledger
from tiercache.engine.loads import Load
from tiercache.engine.markers import Markers
from tiercache.engine.pipeline import Route
from tiercache.engine.recovery import Recovery
from tiercache.entry import Trust

Mutation = Callable[[], AbstractContextManager[Any]]

_record, _loaded, _leave = Far.record, Route.loaded, Load.leave
_abandon, _start = Load._abandon, Load.start


def _popped(flights: Flights, key: str) -> None:
    flights.probes.pop(key, None)
    flights.loads.pop(key, None)


def _unconditional(far: Far, *arguments: Any, conditional: bool) -> Any:
    return _record(far, *arguments, conditional=False)


def _dated_at_its_end(route: Route, load: Load, brought: Any, began: int) -> Any:
    return _loaded(route, load, brought, route.clock.stamp())


def _taken_along(load: Load, waiter: Any) -> None:
    _leave(load, waiter)
    if waiter.cancelled():
        load._abandon()


def _left_attached(load: Load) -> None:
    detached = load.detached
    _abandon(load)
    load.detached = detached


def _alone(load: Load, **options: Any) -> None:
    load.route.flights.loads.pop(load.key, None)
    _start(load, **options)
    load.route.flights.loads.pop(load.key, None)


async def _believed(*_: Any) -> bool:
    return True


@contextmanager
def _trusting() -> Iterator[None]:
    # Either alone is made up for by the other before anybody notices.
    with patch.object(Trust, "holds", lambda *_: True), patch.object(Hearing, "_broken", lambda *_: None):
        yield


def replaced(owner: Any, name: str, value: Any) -> Mutation:
    return lambda: patch.object(owner, name, value)


MUTATIONS: dict[str, Mutation] = {
    "a detached flight is stored": replaced(Flights, "detach", _popped),
    "a set detaches nothing": replaced(Route, "detach", lambda *_: None),
    "old values are stored over new ones": replaced(Far, "record", _unconditional),
    "far reads are not judged by markers": replaced(Markers, "killed", lambda *_: 0),
    "near hits are not judged by markers": replaced(Invalidation, "dead", lambda *_: False),
    "a load is dated at its end": replaced(Route, "loaded", _dated_at_its_end),
    "one caller's cancellation ends the load": replaced(Load, "leave", _taken_along),
    "a load that everybody left is stored": replaced(Load, "_abandon", _left_attached),
    "every caller loads for himself": replaced(Load, "start", _alone),
    "a tier that missed a write is believed": replaced(Recovery, "hides", lambda *_: False),
    "what was missed is forgotten": replaced(Recovery, "miss_write", lambda *_: None),
    "what was missed is replayed blindly": replaced(recovery, "_newer", lambda *_: False),
    "calls have no deadline": replaced(Deadlines, "_sweep", lambda *_: None),
    "the authority guesses": replaced(authority, "_swap", _believed),
    "a lease lives for ever": _trusting,
    "the bus is not listened to": replaced(Hearing, "_changed", lambda *_: None),
    "gaps in what the bus tells are ignored": replaced(Coherence, "lost", lambda *_: None),
    "a tier that was away is not told of markers": replaced(Ledger, "_paid", lambda *_: None),
}

SEEN = {
    "a lease lives for ever": 694,
    "gaps in what the bus tells are ignored": 7996,
}
"""A schedule that was seen to show it, where the first that does is far away."""
