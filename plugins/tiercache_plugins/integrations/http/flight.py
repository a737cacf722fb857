"""One ask of the application for all who want the same."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass
from typing import Any

from tiercache import LoadContext, Loaded
from tiercache_plugins.integrations.http.stored import Kept, Stored, unpack


class Outcome(enum.Enum):
    """What those who waited are told where there is no response for them."""

    PRIVATE = "private"
    """The response is not theirs, nor will the next be: let everybody ask by himself."""
    UNSHARED = "unshared"
    """It is not theirs, but another might be."""
    ABORTED = "aborted"
    """There was none, or not all of it."""


@dataclass(frozen=True, slots=True)
class StandIn:
    """The stale response that served because the application failed."""

    response: Stored
    vary: tuple[str, ...]


class Flight:
    """The loader that a request hands to the kernel: once it is called, that request asks the application."""

    __slots__ = ("_outcome", "_over", "called", "stale")

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.called: asyncio.Future[None] = loop.create_future()
        """Done when this request is the one to ask."""
        self.stale: Kept | None = None
        """The stale copy that the kernel found."""
        self._outcome: asyncio.Future[Loaded] = loop.create_future()
        self._over = False

    async def load(self, context: LoadContext) -> Loaded:
        """Return what the application answered, once it did; this is what the kernel calls."""
        if self._over or self.called.done():
            return Loaded(Outcome.ABORTED, store=False)
        self.stale = unpack(context.stale)
        self.called.set_result(None)
        return await self._outcome

    def settle(self, result: Loaded | Outcome | StandIn) -> None:
        """Tell those who wait; only the first call counts."""
        self._over = True
        if not self._outcome.done():
            self._outcome.set_result(result if isinstance(result, Loaded) else Loaded(result, store=False))

    @property
    def settled(self) -> bool:
        """Whether those who wait know."""
        return self._outcome.done()


def outcome_of(value: Any) -> Kept | StandIn | Outcome:
    """Return what a load brought to somebody who waited."""
    if isinstance(value, (StandIn, Outcome)):
        return value
    kept = unpack(value)
    return Outcome.ABORTED if kept is None else kept
