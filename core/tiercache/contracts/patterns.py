"""Patterns, which wrap what a route does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable


class Life(NamedTuple):
    """What a value is stored with."""

    ttl: float
    """Seconds that it is fresh; `math.inf` for ever."""
    stale: float = 0.0
    """Seconds after that during which it may serve as a stale copy."""
    tags: tuple[str, ...] = ()


Load = Callable[[str, Callable[[], Any]], Awaitable[Any]]
"""Brings the value of a key by a loader, which may be sync or async."""
Save = Callable[[str, Any, Life], Awaitable[None]]
"""Stores the value of a key."""


class Pattern(Protocol):
    """Wraps what a route does. Composed once, when the cache is built; implement any ability below."""


@runtime_checkable
class Loads(Protocol):
    """A pattern around loading."""

    def around_load(self, load: Load) -> Load:
        """Return *load* wrapped."""
        ...


@runtime_checkable
class Saves(Protocol):
    """A pattern around storing."""

    def around_save(self, save: Save) -> Save:
        """Return *save* wrapped."""
        ...


@runtime_checkable
class Watches(Protocol):
    """A pattern that is told of reads. Routes without one pay nothing for it."""

    def seen(self, key: str, *, hit: bool) -> None:
        """Take note that *key* was asked for. Called on the reader's path: be quick, never block."""
        ...


@runtime_checkable
class Supplies(Protocol):
    """A pattern that knows where values come from, so that reads without a loader can load."""

    on_miss: bool
    """Whether a read that finds nothing loads."""
    ahead: float | None
    """Share of an entry's life after which a read of it starts a load in the background; the route's own
    `refresh_ahead` wins. None: never.
    """

    def loader(self, key: str) -> Callable[..., Any] | None:
        """Return what loads *key*, as `Cache.get_or_set` takes it; None where nothing here does.

        A loader that brings MISSING says that there is no such thing: the reader is given the default.
        """
        ...


@runtime_checkable
class Works(Protocol):
    """A pattern with work of its own while the cache is open."""

    async def open(self, cache: Any) -> None:
        """Begin. *cache* is the `Cache`, started; every tier answers. What is raised stops the start."""
        ...

    async def close(self) -> None:
        """End, while every tier still answers. Called once, also where `open` failed."""
        ...
