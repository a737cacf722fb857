"""Who waits for whom among loads, so that a circle is told instead of waited in for ever.

A wait-for graph (R. C. Holt, "Some Deadlock Properties of Computer Systems", ACM Computing Surveys 4, 1972).
A load waits for another one while a task of its loader does, or any task that its loader has started: nobody
can see whether the loader waits for those. A wait lasts as long as its future, so who is cancelled, or is
given something else after a time-out, does not wait any more; nor does what a loader has left behind, unless
it was a circle that the load ended by: then what is left of it would only begin it anew, and so on for ever.

A circle whose callers have all gone can run from its own cancellation, each load beginning the next one just
before it is cancelled itself. Nobody ever waits in it, so it is known by its length alone.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any, TypeVar

from tiercache.errors import LoadCancelled, LoadCycle

T = TypeVar("T")

LONG = 64
"""So many loads begun by one another, with one key among them twice, are a circle that nobody waits in."""

_PLACE: contextvars.ContextVar[Place | None] = contextvars.ContextVar("tiercache_place", default=None)


class Place:
    """The place of one load among those that wait for each other. It may be read from several threads."""

    __slots__ = ("circular", "ended", "key", "outer", "route", "waits")

    def __init__(self, key: str = "", route: object = None) -> None:
        self.key = key
        self.route = route
        self.outer = _PLACE.get()
        self.waits: dict[asyncio.Future[Any], Place] = {}
        self.ended = False
        self.circular = False
        """Whether it ended by LoadCycle."""

    def enter(self) -> None:
        """From here on, what this context waits for keeps this load waiting."""
        _PLACE.set(self)

    def within(self, act: Callable[[], T]) -> T:
        """Return what *act* does, called as a part of this load."""
        token = _PLACE.set(self)
        try:
            return act()
        finally:
            _PLACE.reset(token)

    def end(self, error: BaseException | None = None) -> None:
        """The loader is through, whatever it has left behind; *error* is what it ended by first."""
        if self.ended:
            return
        self.ended = True
        self.waits.clear()
        if isinstance(error, LoadCycle):
            self.circular = True
        elif not isinstance(error, (asyncio.CancelledError, LoadCancelled)):
            # Tasks that outlive their load keep its place; they need not keep those around it.
            self.outer = None

    def awaited(self, waiter: asyncio.Future[Any]) -> None:
        """Take note that the load of this context, if it is one's, waits for this one until *waiter* is done.

        Raises LoadCycle where this one already waits for that one, through however many others, or where it
        began while a load of the same key did.
        """
        waiting = _PLACE.get()
        if waiting is None or (waiting.ended and not waiting.circular):
            return
        if not waiting.ended:
            # First the wait, then the look: of two threads that close a circle together, one sees it.
            waiting.waits[waiter] = self
        circle = waiting.back_to(self) or _way(self, waiting)
        if circle:
            waiting.waits.pop(waiter, None)
            chain = " → ".join(repr(place.key) for place in (*circle, self) if place.key)
            raise LoadCycle(f"a load would wait for itself: {chain}")

    def left(self, waiter: asyncio.Future[Any]) -> None:
        """Undo `awaited`, in the same context."""
        waiting = _PLACE.get()
        if waiting is not None:
            waiting.waits.pop(waiter, None)

    def awaiting(self) -> list[Place]:
        """Return the places that this one waits for right now."""
        return [place for waiter, place in self.waits.copy().items() if not waiter.done()]

    def back_to(self, other: Place) -> list[Place]:
        """Return the places from a load of the key of *other* to this one, each begun by the one before.

        It is another load where the key was changed meanwhile, or where a circle has ended the first: a
        loader that refreshes its own key would begin one load after the other, and none of them would end.
        """
        path: list[Place] = [self]
        circle = 0
        unbroken = True
        while True:
            last = path[-1]
            if not circle and last.key == other.key and last.route is other.route:
                circle = len(path)
            if circle and (unbroken or len(path) > LONG):
                return path[circle - 1 :: -1]
            if (outer := last.outer) is None:
                return []
            # A loader of many keys is waited for by way of those keys.
            unbroken = unbroken and (outer.circular or last in outer.awaiting() or bool(_way(outer, last)))
            path.append(outer)


def _way(start: Place, goal: Place) -> list[Place]:
    """Return the places from *start* to *goal*, each of which waits for the next; else none."""
    came_from: dict[Place, Place | None] = {start: None}
    ahead = [start]
    while ahead:
        place = ahead.pop()
        if place is goal:
            path = [place]
            while (before := came_from[path[0]]) is not None:
                path.insert(0, before)
            return path
        for awaited in place.awaiting():
            if awaited not in came_from:
                came_from[awaited] = place
                ahead.append(awaited)
    return []
