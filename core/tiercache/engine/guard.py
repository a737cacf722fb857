"""What stands before a far tier: it turns failures into misses and skipped writes, and counts them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from tiercache.clock import Clock
from tiercache.contracts import FarTier
from tiercache.engine.stats import FarCounts
from tiercache.errors import TierError, TierRefused

log = logging.getLogger("tiercache.tier")

T = TypeVar("T")

REOPEN_AFTER: Final = 1.0
"""Seconds before a tier that could not be opened is tried again."""


FRAMES: Final = (bytes, type(None))
"""What a read answers for each key."""
NUMBERS: Final = (int,)
"""What a write or a delete answers: stamps, or whether something was there."""


async def answers(
    act: Callable[[Sequence[Any]], Awaitable[Iterable[Any]]], items: Sequence[Any], kinds: tuple[type, ...]
) -> list[Any]:
    """Return what a batch call answers for each of *items*. Raises TierError where it gave something else."""
    results = list(await act(items))
    if len(results) != len(items):
        raise TierError(f"gave {len(results)} answers where {len(items)} were asked for")
    for result in results:
        if not isinstance(result, kinds):
            raise TierError(f"answered with {type(result).__name__}, not {kinds[0].__name__}")
    return results


def under_cancellation() -> bool:
    """Whether somebody has cancelled the current task.

    Otherwise a CancelledError is the tier's own doing, as where a driver loses a task of its own, and whoever
    waits for the call must not be left waiting, or believe to be cancelled.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class Guard:
    """One far tier behind the promise that its failures reach nobody.

    A call that fails gives None. Each change of state is logged once; every failure is counted.
    """

    __slots__ = ("_clock", "_opened", "_retry_at", "available", "counts", "name", "tier")

    def __init__(self, name: str, tier: FarTier, clock: Clock) -> None:
        self.name = name
        self.tier = tier
        self.counts = FarCounts()
        self.available = True
        """Whether the last call went well."""
        self._clock = clock
        self._opened = False
        self._retry_at = 0.0

    async def open(self) -> None:
        """Open the tier. Raises TierRefused where it never will work; is content with one that is away."""
        try:
            await self.tier.open()
        except TierRefused:
            raise
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; it is counted and logged
            self._retry_at = self._clock.monotonic() + REOPEN_AFTER
            self.failed(error)
        else:
            self._opened = True

    async def close(self) -> None:
        """Close the tier, whatever state it is in."""
        self._opened = False
        self._retry_at = float("inf")
        await self.tier.close()

    async def call(
        self, act: Callable[..., Awaitable[T]], *arguments: Any, passing: tuple[type[Exception], ...] = ()
    ) -> T | None:
        """Return what `act(*arguments)` brings, or None where the tier failed.

        Errors of the types *passing* are answers, not failures, and are raised.
        """
        if not self._opened and not await self._reopened():
            return None
        try:
            result = await act(*arguments)
        except passing:
            raise
        except asyncio.CancelledError as error:
            if under_cancellation():
                raise
            self.failed(error)
            return None
        except Exception as error:  # noqa: BLE001 - likewise
            self.failed(error)
            return None
        if not self.available:
            self.available = True
            log.info("tier %s is back", self.name, extra={"tiercache_tier": self.name})
        return result

    def failed(self, error: BaseException) -> None:
        """Count *error*; log it where the tier was well until now."""
        self.counts.errors += 1
        if self.available:
            self.available = False
            log.warning(
                "tier %s is lost, reads miss and writes are skipped: %s: %s",
                self.name,
                type(error).__name__,
                error,
                extra={"tiercache_tier": self.name},
            )

    async def _reopened(self) -> bool:
        if self._clock.monotonic() < self._retry_at:
            self.counts.errors += 1
            return False
        try:
            await self.open()
        except TierRefused as error:
            self._retry_at = self._clock.monotonic() + REOPEN_AFTER
            self.failed(error)
        return self._opened
