"""Loading on a thread that must not wait, because an event loop runs on it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tiercache.engine.loaded import Loaded
from tiercache.engine.loads import Load
from tiercache.errors import CacheClosed, LoadCancelled
from tiercache.sync.turn import running_loop

if TYPE_CHECKING:
    from tiercache.cache import Cache

log = logging.getLogger("tiercache.sync")


class Beside(Load):
    """A load that runs where it was called, and not in a task.

    Who wants the key meanwhile joins it, and a write or an invalidation detaches it, as any other.
    """

    __slots__ = ()

    def begin(self) -> bool:
        """Let others join; return False where another load is under way."""
        self.loading = True
        self.since = self.route.moment()
        self._stale = self.route.keeping.stale_copy(self.key)
        # In one step, as other threads may do the same.
        return self.route.flights.loads.setdefault(self.key, self) is self

    def bring(self, value: Any, began: int, spent: float) -> None:
        """Store what was loaded since the stamp *began*, and tell it to all who joined. On the loop.

        Raises Unserializable, after they were told.
        """
        self._count(spent)
        try:
            value, writes = self.route.loaded(self, value, began)
        except Exception as error:
            self._end(error)
            raise
        self.landed = value
        self.place.end()
        self._resolve(value)
        if writes and self.route.near is None and not self.detached:
            # Without a near tier the value is nowhere until the far writes end; whoever comes now joins.
            writes[-1].add_done_callback(lambda _: self._leave())
        else:
            self._leave()

    def fail(self, error: Exception, spent: float) -> None:
        """Take note that the loader failed. On the loop."""
        self._count(spent)
        self.route.counts.load_errors += 1
        self._fail(error)

    def standin(self) -> Any:
        """Return the stale copy that may be served for a loader that failed, in a tuple; else None."""
        stale = self._usable()
        return None if stale is None else (stale.value,)

    def _count(self, spent: float) -> None:
        counts = self.route.counts
        counts.near_misses += 1
        counts.missed(self.key)
        counts.loads += 1
        counts.load_seconds += spent


def beside(cache: Cache, key: str, loader: Callable[[], Any], terms: Mapping[str, Any]) -> Any:
    """Return what *loader* brings; it is stored in the background, by the loop of *cache*.

    Where another load of the key is under way, this one is for its caller alone. What can't be stored raises
    Unserializable on the cache's own loop; on another loop's thread that is logged.
    """
    loop = cache._loop  # noqa: SLF001 - its other face
    if loop is None:
        raise CacheClosed("the cache is not open")
    way = cache._house.way(key, terms["route"])  # noqa: SLF001 - likewise
    if (failure := way.negatives.remembered(key)) is not None:
        raise failure
    life = cache._life(way, terms["ttl"], terms["stale"], terms["tags"])  # noqa: SLF001 - likewise
    load = Beside(way, key, loader, life)
    ours = load.begin()
    here = running_loop() is loop
    began, started = way.clock.early(), time.perf_counter()

    def post(act: Callable[[], None]) -> None:
        if not ours:
            return
        if here:
            act()
            return
        try:
            loop.call_soon_threadsafe(_logged, key, act)
        except RuntimeError:
            log.info("%r was loaded while the cache closed, and is not kept", key)

    try:
        value = load.place.within(loader)
    except Exception as error:
        failed, spent = error, time.perf_counter() - started
        stale = load.standin()
        post(lambda: load.fail(failed, spent))
        if stale is None:
            raise
        return way.own(stale[0])
    except BaseException:
        post(lambda: load.fail(LoadCancelled(f"the load of {key!r} was interrupted"), 0.0))
        raise
    spent = time.perf_counter() - started
    post(lambda: load.bring(value, began, spent))
    return value.value if isinstance(value, Loaded) else value


def _logged(key: str, act: Callable[[], None]) -> None:
    try:
        act()
    except Exception as error:  # noqa: BLE001 - whoever should hear of it has long gone on
        log.warning("%r can't be stored: %s: %s", key, type(error).__name__, error)
