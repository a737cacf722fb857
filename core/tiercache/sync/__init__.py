"""The same calls for code without an event loop: `Cache.sync`, and `Cache.open_sync`."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from inspect import iscoroutinefunction
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from tiercache.engine.calling import takes_context as takes_context
from tiercache.engine.stats import Stats
from tiercache.entry import MISSING, Hot
from tiercache.sync.hop import Hop
from tiercache.sync.lock import SyncLock
from tiercache.sync.turn import Turn

if TYPE_CHECKING:
    from tiercache.cache import Cache
    from tiercache.config.compare import Change
    from tiercache.decorators import Decorator
    from tiercache.engine.explaining import Explanation

_PAGE: Final = 256
"""Keys that one hop to the loop's thread brings."""


class SyncCache(Hop):
    """A cache for code without an event loop, safe to use from any number of threads at once.

    Near hits are taken in the calling thread. All else is done by the cache's event loop in its own thread
    while the caller waits, which costs a hop of some 50 µs; so a call that would have to wait is refused
    with RuntimeError on that loop's own thread. On the thread of any other loop it holds that loop up.

    Every method does what the one of `Cache` with its name does.
    """

    __slots__ = ("__weakref__",)

    _own_loop = False

    def __init__(self, cache: Cache) -> None:
        super().__init__(cache)
        _FACES.add(self)

    def close(self) -> None:
        """Close the cache. Safe to call twice."""
        if self._cache.is_open:
            self._ask(self._ready().close())

    def __enter__(self) -> Self:
        self._ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SyncCache of {self._cache!r}>"

    def get(self, key: str, default: Any = None, route: str | None = None, as_type: Any = None) -> Any:
        """As `Cache.get`."""
        # What `Cache.get` does, written out: a call less is a third of a hit.
        cache = self._cache
        try:
            entry = cache._direct[key]  # noqa: SLF001 - its other face
        except (KeyError, TypeError):
            pass
        else:
            if cache.now < entry.fresh_until and as_type is None:
                entry.hits += 1
                return entry.value
        return self._beyond(key, default, route, as_type)

    def peek(self, key: str, default: Any = None) -> Any:
        """As `Cache.peek`. Never waits, so it may be called on the loop's thread too."""
        return self._cache.peek(key, default)

    def get_many(
        self, keys: Iterable[str], *, route: str | None = None, as_type: Any = None
    ) -> dict[str, Any]:
        """As `Cache.get_many`."""
        wanted = list(dict.fromkeys(keys))
        found = {key: value for key in wanted if (value := self._near(key, route, as_type)) is not MISSING}
        absent = [key for key in wanted if key not in found]
        if not absent:
            return found
        found |= self._ask(self._ready().get_many(absent, route=route, as_type=as_type))
        return {key: found[key] for key in wanted if key in found}

    def get_or_set(
        self,
        key: str,
        loader: Callable[..., Any],
        *,
        route: str | None = None,
        ttl: float | str | timedelta | None = None,
        stale: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
        as_type: Any = None,
        fallback: Any = MISSING,
    ) -> Any:
        """As `Cache.get_or_set`, with a *loader* that may take its time.

        A sync loader runs in the thread of the caller whose flight it is, with that thread's connections
        and locals, while the event loop goes on; everybody else who wants the key waits for it. Where that
        caller does not wait any more (it was interrupted, or the value is renewed in the background) the
        loader runs in a thread made for it. A coroutine function runs on the cache's loop.
        """
        value = self._near(key, route, as_type)
        if value is not MISSING and not self._due(key, route):
            return value
        cache = self._ready()
        turn = None if iscoroutinefunction(loader) else Turn(loader, self._loop())
        called = loader
        if turn is not None:
            called = turn.load_in if takes_context(loader) else turn.load
        return self._ask(
            cache.get_or_set(
                key, called, route=route, ttl=ttl, stale=stale, tags=tags, as_type=as_type, fallback=fallback
            ),
            turn,
        )

    def get_or_set_many(
        self,
        keys: Iterable[str],
        loader: Callable[[list[str]], Any],
        *,
        route: str | None = None,
        ttl: float | str | timedelta | None = None,
        stale: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
    ) -> dict[str, Any]:
        """As `Cache.get_or_set_many`; the *loader* runs where that of `get_or_set` does."""
        wanted = list(dict.fromkeys(keys))
        found = {key: value for key in wanted if (value := self._near(key, route, None)) is not MISSING}
        if len(found) == len(wanted):
            return found
        cache = self._ready()
        turn = None if iscoroutinefunction(loader) else Turn(loader, self._loop())
        called = loader if turn is None else turn.load
        return self._ask(
            cache.get_or_set_many(wanted, called, route=route, ttl=ttl, stale=stale, tags=tags), turn
        )

    def refresh(
        self,
        key: str,
        loader: Callable[..., Any],
        *,
        route: str | None = None,
        ttl: float | str | timedelta | None = None,
        stale: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
    ) -> Any:
        """As `Cache.refresh`; the *loader* runs where that of `get_or_set` does."""
        cache = self._ready()
        turn = None if iscoroutinefunction(loader) else Turn(loader, self._loop())
        called = loader
        if turn is not None:
            called = turn.load_in if takes_context(loader) else turn.load
        return self._ask(cache.refresh(key, called, route=route, ttl=ttl, stale=stale, tags=tags), turn)

    def expire(self, key: str, *, route: str | None = None) -> bool:
        """As `Cache.expire`."""
        return self._ask(self._ready().expire(key, route=route))

    def exists(self, key: str, *, route: str | None = None) -> bool:
        """As `Cache.exists`."""
        return self._ask(self._ready().exists(key, route=route))

    def ttl(self, key: str, *, route: str | None = None) -> float | None:
        """As `Cache.ttl`."""
        return self._ask(self._ready().ttl(key, route=route))

    def keys(self, match: str = "*") -> Iterator[str]:
        """As `Cache.keys`."""
        found = self._ready().keys(match)

        async def page() -> list[str]:
            keys: list[str] = []
            async for key in found:
                keys.append(key)
                if len(keys) == _PAGE:
                    break
            return keys

        def pages() -> Iterator[str]:
            while True:
                keys = self._ask(page())
                yield from keys
                if len(keys) < _PAGE:
                    return

        return pages()

    def set(
        self,
        key: str,
        value: Any,
        *,
        route: str | None = None,
        ttl: float | str | timedelta | None = None,
        stale: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
    ) -> None:
        """As `Cache.set`."""
        self._ask(self._ready().set(key, value, route=route, ttl=ttl, stale=stale, tags=tags))

    def set_many(
        self,
        values: Mapping[str, Any],
        *,
        route: str | None = None,
        ttl: float | str | timedelta | None = None,
        stale: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
    ) -> None:
        """As `Cache.set_many`."""
        self._ask(self._ready().set_many(values, route=route, ttl=ttl, stale=stale, tags=tags))

    def add(
        self,
        key: str,
        value: Any,
        *,
        route: str | None = None,
        ttl: float | str | timedelta | None = None,
        stale: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
    ) -> bool:
        """As `Cache.add`."""
        return self._ask(self._ready().add(key, value, route=route, ttl=ttl, stale=stale, tags=tags))

    def touch(self, key: str, *, ttl: float | str | timedelta, route: str | None = None) -> bool:
        """As `Cache.touch`."""
        return self._ask(self._ready().touch(key, ttl=ttl, route=route))

    def increment(
        self,
        key: str,
        delta: int = 1,
        *,
        route: str | None = None,
        ttl: float | str | timedelta | None = None,
        tags: Iterable[str] = (),
    ) -> int:
        """As `Cache.increment`."""
        return self._ask(self._ready().increment(key, delta, route=route, ttl=ttl, tags=tags))

    def lock(
        self,
        name: str,
        *,
        ttl: float | str | timedelta = 10.0,
        wait: float | str | timedelta | None = None,
        route: str | None = None,
    ) -> SyncLock:
        """As `Cache.lock`, for `with`. What is wrong with the arguments is told when it is acquired."""
        return SyncLock(self, name, ttl, wait, route)

    def delete(self, key: str) -> bool:
        """As `Cache.delete`."""
        return self._ask(self._ready().delete(key))

    def delete_many(self, keys: Iterable[str]) -> int:
        """As `Cache.delete_many`."""
        return self._ask(self._ready().delete_many(keys))

    def invalidate(
        self, *, tags: Iterable[str] = (), prefix: str | None = None, match: str | None = None
    ) -> int | None:
        """As `Cache.invalidate`."""
        return self._ask(self._ready().invalidate(tags=tags, prefix=prefix, match=match))

    def clear(self) -> None:
        """As `Cache.clear`."""
        self._ask(self._ready().clear())

    def tiers_of(self, key: str, *, route: str | None = None) -> tuple[str, ...]:
        """As `Cache.tiers_of`."""
        return self._cache.tiers_of(key, route=route)

    def stats(self) -> Stats:
        """As `Cache.stats`."""
        return self._cache.stats()

    def explain(self, key: str, *, route: str | None = None) -> Explanation:
        """As `Cache.explain`."""
        return self._ask(self._ready().explain(key, route=route))

    def reload(
        self, source: str | os.PathLike[str] | Mapping[str, Any] | None = None, **overrides: Any
    ) -> tuple[Change, ...]:
        """As `Cache.reload`."""
        return self._ask(self._ready().reload(source, **overrides))

    def hottest(self, count: int) -> list[Hot]:
        """As `Cache.hottest`."""
        return self._cache.hottest(count)

    def cached(
        self,
        *,
        ttl: float | str | timedelta | None = None,
        stale: float | str | timedelta | None = None,
        key: str | Callable[..., str] | None = None,
        tags: Iterable[str] | Callable[..., Iterable[str]] = (),
        route: str | None = None,
        ignore: Sequence[str] = (),
        version: int | str = 1,
    ) -> Decorator:
        """As `Cache.cached`; where the cache has a loop of its own, for sync functions alone."""
        from tiercache.decorators import decorator

        made: Decorator = decorator(
            self, ttl=ttl, stale=stale, key=key, tags=tags, route=route, ignore=ignore, version=version,
            own_loop=self._own_loop,
        )  # fmt: skip
        return made


_FACES: weakref.WeakSet[SyncCache] = weakref.WeakSet()


def _after_fork() -> None:
    for face in list(_FACES):
        face._forked()  # noqa: SLF001 - the fork hook is part of the face


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
