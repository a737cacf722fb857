"""Patterns as a route and a cache use them: composed once, when the cache is built."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from tiercache.contracts import Load, Loads, Pattern, Save, Saves, Supplies, Watches, Works

log = logging.getLogger("tiercache.patterns")

CLOSE_WITHIN: Final = 5.0
"""Seconds that a pattern has to end its work."""


def composed(
    patterns: Sequence[Pattern], load: Load, save: Save
) -> tuple[Load, Save, tuple[Callable[..., None], ...]]:
    """Return *load* and *save* within *patterns*, the first outermost, and what is told of reads."""
    watchers: tuple[Callable[..., None], ...] = ()
    for pattern in reversed(patterns):
        if isinstance(pattern, Loads):
            load = pattern.around_load(load)
        if isinstance(pattern, Saves):
            save = pattern.around_save(save)
        if isinstance(pattern, Watches):
            watchers = (pattern.seen, *watchers)
    return load, save, watchers


class Supply:
    """What loads the keys of a route where the reader brings no loader."""

    __slots__ = ("_at_misses", "_patterns", "ahead")

    def __init__(self, patterns: Iterable[Supplies]) -> None:
        self._patterns = tuple(patterns)
        self._at_misses = tuple(pattern for pattern in self._patterns if pattern.on_miss)
        shares = [pattern.ahead for pattern in self._patterns if pattern.ahead is not None]
        self.ahead = min(shares) if shares else None
        """The earliest share of a life after which one of the patterns wants a load to begin."""

    @classmethod
    def of(cls, patterns: Iterable[Pattern]) -> Supply | None:
        """Return what *patterns* know to load; None where none does."""
        able = [pattern for pattern in patterns if isinstance(pattern, Supplies)]
        return cls(able) if able else None

    def missing(self, key: str) -> Callable[..., Any] | None:
        """Return what loads *key*, which a read did not find."""
        return _first(self._at_misses, key)

    def due(self, key: str) -> Callable[..., Any] | None:
        """Return what loads *key*, which was read and is old."""
        return _first(self._patterns, key)


def _first(patterns: Iterable[Supplies], key: str) -> Callable[..., Any] | None:
    return next((found for pattern in patterns if (found := pattern.loader(key)) is not None), None)


class Work:
    """The patterns of a cache that have work of their own."""

    __slots__ = ("_begun", "_patterns")

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self._patterns = tuple(pattern for pattern in patterns if isinstance(pattern, Works))
        self._begun: list[Works] = []

    async def open(self, cache: Any) -> None:
        """Let each begin, in order. Raises what one raises."""
        for pattern in self._patterns:
            self._begun.append(pattern)
            await pattern.open(cache)

    async def close(self) -> None:
        """Let those that have begun end, the last first, also where one fails or hangs."""
        begun, self._begun = self._begun, []
        for pattern in reversed(begun):
            try:
                async with asyncio.timeout(CLOSE_WITHIN):
                    await pattern.close()
            except Exception as error:  # noqa: BLE001 - the others, and the tiers, must be closed all the same
                log.warning(
                    "pattern %s did not close cleanly: %s: %s",
                    type(pattern).__name__, type(error).__name__, error,
                )  # fmt: skip
