"""What every part of `Cache` stands on: its loop, its way to a route, and what the near path reads."""

from __future__ import annotations

import asyncio
import math
from asyncio import get_running_loop
from collections.abc import Callable, Iterable
from datetime import timedelta
from threading import get_ident
from typing import Any, ClassVar, Final

from tiercache.clock import Ticker
from tiercache.contracts import Life
from tiercache.engine.house import House
from tiercache.engine.locks.lending import Lending
from tiercache.engine.pipeline import Route
from tiercache.engine.typed import Shapes
from tiercache.entry import Entry
from tiercache.errors import CacheClosed
from tiercache.keys import check_key
from tiercache.units import seconds


class Away:
    """What stands for the event loop where it can't be told in short whether it runs in this thread."""

    _thread_id: Final = 0


AWAY: Final = Away()


class Base:
    """The state of `Cache`."""

    # The near path reads `_entries` and `now` and nothing else, and is written out in `get` and in `peek`:
    # one calling the other costs a third of a hit. `now` is infinite while the clock is parked, so that
    # one comparison carries the TTL and everything that must send a hit to the slow path.
    __slots__ = (
        "__weakref__",
        "_bare",
        "_clock",
        "_direct",
        "_entries",
        "_forked",
        "_home",
        "_house",
        "_lending",
        "_loop",
        "_mask",
        "_note",
        "_segments",
        "_shapes",
        "_sweeper",
        "_ticker",
        "now",
    )  # fmt: skip

    _written_out: ClassVar[str] = ""
    """How what reads a hit by itself may read it: its "entries", by "peek", or not at all: ""."""

    def __init__(self, house: House) -> None:
        self.now = math.inf
        self._house = house
        self._lending = Lending(house.namespace, house.clock)
        self._clock = house.clock
        self._shapes = Shapes()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bare = not any(route.fars or route.supply for route in house.routes.values())
        """Whether what is not near is nowhere."""
        self._sweeper: asyncio.Task[None] | None = None
        self._ticker: Ticker | None = None
        self._forked = False
        self._shut()

    def _way(self, key: str, route: str | None) -> Route:
        if self._home._thread_id != get_ident():  # noqa: SLF001 - asyncio's own look, in its debug mode
            self._here()
        return self._house.way(key, route)

    def _here(self) -> None:
        """Raise where the cache is not open, or belongs to another event loop."""
        if get_running_loop() is not self._loop:
            self._check_open()
            raise RuntimeError(
                "this cache was started on another event loop; open one cache a loop, or use it from its own"
            )

    def _abandon(self) -> None:
        """In the child of a fork: leave everything to the parent, which goes on using it."""
        self._forked = self._forked or self._loop is not None
        self._loop = None
        self._shut()

    def _check_origin(self) -> None:
        if self._forked:
            raise CacheClosed(
                "the cache belongs to the process that this one was forked from, which goes on using its "
                "connections; open another one here"
            )

    def _check_open(self) -> None:
        self._check_origin()
        if self._loop is None:
            raise CacheClosed("the cache is not open: use `async with`, or await `start()` first")

    @staticmethod
    def _life(
        way: Route,
        ttl: float | str | timedelta | None,
        stale: float | str | timedelta | None,
        tags: Iterable[str],
    ) -> Life:
        if ttl is None and stale is None and not tags:
            return way.life
        if isinstance(tags, str):
            raise TypeError(f"tags must be a collection of str; for one tag write ({tags!r},)")
        labels = tuple(dict.fromkeys(tags))
        for label in labels:
            check_key(label)
        if stale is not None:
            way.check_stale(seconds(stale))
        return Life(
            way.life.ttl if ttl is None else seconds(ttl),
            way.life.stale if stale is None else seconds(stale),
            labels,
        )

    def _shut(self) -> None:
        """Read nothing near, and belong to no loop any more."""
        self._home: Any = AWAY
        self._entries: dict[str, Entry] = {}
        self._direct: dict[str, Entry] = {}
        """The same where a hit is no more than what `get` does with it, for threads too; else empty."""
        self._segments: tuple[dict[str, Entry], ...] = ({},)
        self._mask = 0
        self._note: Callable[[str], object] | None = None

    def _at_home(self, loop: asyncio.AbstractEventLoop) -> None:
        """Belong to *loop*."""
        self._loop = loop
        # The loops of asyncio know the thread that they run in, while they do. Asking for the running loop
        # instead costs 130 ns more in Python 3.11, which asks the system for the process's id each time.
        self._home = loop if hasattr(loop, "_thread_id") else AWAY

    def _bind(self) -> None:
        """Read anew what the near path reads: the near tier makes new dictionaries when it is cleared."""
        near = next(iter(self._house.nears.values()), None)
        self._entries = near.entries if near is not None and near.entries is not None else {}
        watched = any(route.watchers or route.supply is not None for route in self._house.routes.values())
        self._direct = self._entries if self._written_out == "entries" and not watched else {}
        self._segments = near.segments if near is not None and near.segments is not None else ({},)
        self._mask = len(self._segments) - 1
        self._note = near.touch if near is not None else None
