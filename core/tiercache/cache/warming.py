"""Warming: bringing values into a cache before anybody asks for them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

from tiercache.entry import MISSING

if TYPE_CHECKING:
    from tiercache.cache import Cache

log = logging.getLogger("tiercache.warming")

T = TypeVar("T")
Progress = Callable[["Warmed"], object]
"""Is told after each key how far it has come."""

_TOLD: Final = frozenset({"key", "value", "route", "ttl", "tags"})


class WarmItem(NamedTuple):
    """A value to be stored."""

    key: str
    value: Any
    route: str | None = None
    """None: the call's, else the key's own."""
    ttl: float | str | timedelta | None = None
    """None: the call's, else the route's."""
    tags: tuple[str, ...] = ()
    """Beside those of the call."""


@dataclass(frozen=True, slots=True)
class Warmed:
    """How far warming has come."""

    stored: int
    """Keys that are cached now."""
    failed: int
    """Keys that could not be stored, or loaded; each was logged."""
    total: int | None
    """Keys in all; None where that is not known beforehand."""


async def warm(
    cache: Cache,
    items: Mapping[str, Any] | Iterable[WarmItem] | AsyncIterable[WarmItem],
    *,
    route: str | None = None,
    ttl: float | str | timedelta | None = None,
    tags: Iterable[str] = (),
    concurrency: int = 64,
    rate: float | None = None,
    progress: Progress | None = None,
) -> Warmed:
    """Store *items*: a mapping of values, or `WarmItem`s one by one, of which few are held at a time.

    *concurrency* keys are under way at once, and at most *rate* a second begin (None: no limit). *progress*
    is called after each. A key that fails is logged and counted, and the others go on. Raises ValueError for
    a concurrency or rate of zero or less.
    """
    common = tuple(tags)
    total = None
    if isinstance(items, Mapping):
        values = cast("Mapping[str, Any]", items)
        total = len(values)
        items = (WarmItem(key, value) for key, value in values.items())

    async def store(item: WarmItem) -> None:
        await cache.set(
            item.key, item.value, route=item.route or route, ttl=ttl if item.ttl is None else item.ttl,
            tags=(*common, *item.tags),
        )  # fmt: skip

    return await _each(items, lambda item: item.key, store, concurrency, rate, _Counting(total, progress))


async def warm_by(
    cache: Cache,
    keys: Iterable[str] | AsyncIterable[str],
    loader: Callable[[str], Any],
    *,
    route: str | None = None,
    ttl: float | str | timedelta | None = None,
    tags: Iterable[str] = (),
    concurrency: int = 16,
    rate: float | None = None,
    progress: Progress | None = None,
) -> Warmed:
    """Load those of *keys* that are not cached by *loader*, which is given the key, and store what it brings.

    A key that is being loaded already is not loaded again. All else is as with `warm`.
    """
    common = tuple(tags)
    total = len(keys) if isinstance(keys, (list, tuple, set, frozenset, dict)) else None

    async def load(key: str) -> None:
        await cache.get_or_set(key, lambda: loader(key), route=route, ttl=ttl, tags=common)

    return await _each(keys, lambda key: key, load, concurrency, rate, _Counting(total, progress))


def read_lines(path: str | os.PathLike[str]) -> Iterator[WarmItem]:
    """Yield what is in a file of JSON Lines: in each an object with `key` and `value`, and, if wanted,
    `route`, `ttl` and `tags`. Lines without anything are passed over. The file is read as it is needed.

    Raises ValueError with the number of a line that is something else, OSError where there is no such file.
    """
    with Path(path).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _item(line, f"{os.fspath(path)}:{number}")


def _item(line: str, where: str) -> WarmItem:
    try:
        told = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: this is no JSON: {error}") from None
    if not isinstance(told, dict) or not {"key", "value"} <= told.keys() <= _TOLD:
        raise ValueError(f"{where}: an object with key and value is accepted, and with route, ttl and tags")
    key, tags, route = told["key"], told.get("tags", []), told.get("route")
    if not isinstance(key, str) or not (route is None or isinstance(route, str)):
        raise ValueError(f"{where}: key and route must be text")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError(f"{where}: tags must be a list of texts")
    return WarmItem(key, told["value"], route, told.get("ttl"), tuple(tags))


class _Counting:
    def __init__(self, total: int | None, progress: Progress | None) -> None:
        self._total = total
        self._progress = progress
        self._stored = self._failed = 0

    def done(self, key: str, error: Exception | None) -> None:
        if error is None:
            self._stored += 1
        else:
            self._failed += 1
            log.warning("%r was not warmed: %s: %s", key, type(error).__name__, error)
        if self._progress is not None:
            self._progress(self.so_far())

    def so_far(self) -> Warmed:
        return Warmed(self._stored, self._failed, self._total)


async def _each(
    items: Iterable[T] | AsyncIterable[T],
    key_of: Callable[[T], str],
    act: Callable[[T], Awaitable[None]],
    concurrency: int,
    rate: float | None,
    counting: _Counting,
) -> Warmed:
    """Do *act* with each of *items*, a few at a time."""
    if concurrency < 1:
        raise ValueError(f"concurrency is {concurrency}; 1 or more is accepted")
    if rate is not None and rate <= 0:
        raise ValueError(f"rate is {rate}; more than 0 a second is accepted")
    coming = _paced(items, rate)
    taking = asyncio.Lock()

    async def work() -> None:
        while True:
            async with taking:
                item = await anext(coming, MISSING)
            if item is MISSING:
                return
            error = None
            try:
                await act(item)
            except Exception as raised:  # noqa: BLE001 - it is told of, and the others go on
                error = raised
            counting.done(key_of(item), error)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())
    return counting.so_far()


async def _paced(items: Iterable[T] | AsyncIterable[T], rate: float | None) -> AsyncIterator[T]:
    began = time.monotonic()
    count = 0
    async for item in _async(items):
        if rate is not None:
            await asyncio.sleep(max(began + count / rate - time.monotonic(), 0))
            count += 1
        yield item


async def _async(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
