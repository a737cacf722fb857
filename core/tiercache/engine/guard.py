"""What stands before a far tier: it turns failures into misses and skipped writes, and counts them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import perf_counter
from typing import Any, Final, TypeVar

from tiercache.clock import Clock
from tiercache.contracts import FarTier
from tiercache.engine.breaker import PAUSE, WINDOW, Breaker, State
from tiercache.engine.deadlines import Deadlines, Overdue
from tiercache.engine.stats import FarCounts
from tiercache.engine.telemetry import FarCall, Watch
from tiercache.errors import TierError, TierRefused

log = logging.getLogger("tiercache.tier")

T = TypeVar("T")

REOPEN_AFTER: Final = PAUSE
"""Seconds before a tier that could not be opened is tried again, at most."""

DEADLINE: Final = 2.0
"""Seconds that a call may take where nothing else is said."""
OPENING: Final = 10.0
"""Seconds that opening a tier may take at start: a file may have to be looked through."""
WIPING: Final = 60.0
"""Seconds that dropping everything may take."""

FRAMES: Final = (bytes, type(None))
"""What a read answers for each key."""
NUMBERS: Final = (int,)
"""What a write or a delete answers: stamps, or whether something was there."""


async def answers(
    act: Callable[[Sequence[Any]], Awaitable[Iterable[Any]]], items: Sequence[Any], kinds: tuple[type, ...]
) -> list[Any]:
    """Return what a batch call answers for each of *items*. Raises TierError where it gave something else."""
    return checked(await act(items), len(items), kinds)


def checked(answered: Iterable[Any], count: int, kinds: tuple[type, ...]) -> list[Any]:
    """Return *answered* where it is *count* answers of *kinds*. Raises TierError where it is not."""
    results = answered if type(answered) is list else list(answered)
    if len(results) != count:
        raise TierError(f"gave {len(results)} answers where {count} were asked for")
    if set(map(type, results)).issubset(kinds):
        # What well-made tiers answer, found in C: a tenth of the time that the rest takes.
        return results
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
    """One far tier behind the promise that its failures reach nobody, and that nobody waits for it long.

    A call that fails, or is not over by *deadline* (seconds), gives None; so does one that is not made,
    because the breaker is open. Each change of state is logged once; every failure is counted.
    """

    __slots__ = (
        "_after",
        "_closed",
        "_deadlines",
        "_entered",
        "_last_told",
        "_opened",
        "available",
        "breaker",
        "counts",
        "deadline",
        "last_error",
        "name",
        "tier",
        "timeouts",
        "watch",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        tier: FarTier,
        clock: Clock,
        *,
        deadline: float = DEADLINE,
        opened: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.name = name
        self.tier = tier
        self.deadline = deadline
        self.counts = FarCounts()
        self.watch: Watch | None = None
        """Whom to tell of calls; None where nobody listens."""
        self.last_error = ""
        """What went wrong last, by its type and message."""
        self.available = True
        """Whether the last call went well."""
        self.timeouts = 0
        """Calls that were not over by their deadline."""
        self.breaker = Breaker(clock.monotonic, told=self._told, window=max(WINDOW, 15 * deadline))
        self._deadlines = Deadlines()
        self._after = opened
        self._entered = False
        self._last_told: State = "closed"
        self._opened = False
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the tier was closed, and not opened since."""
        return self._closed

    def barred(self) -> bool:
        """Whether a call would give None at once."""
        if self.breaker.state == "closed":
            return self._closed or self._deadlines.strays > 0
        return self._closed or self._deadlines.strays > 0 or self.breaker.barred()

    @property
    def plain(self) -> bool:
        """Whether a call would do nothing beside it: all is well, and nobody listens."""
        return (
            self._opened
            and self.available
            and self.watch is None
            and self.breaker.state == "closed"
            and not self._deadlines.strays
        )

    def began(self, loop: asyncio.AbstractEventLoop, overdue: Callable[[], None]) -> Callable[[], None]:
        """Take note of a call that is no coroutine, made while the guard is `plain`; *overdue* is called at
        its deadline. Return what is to be called when it is over.
        """
        return self._deadlines.until(loop, self.deadline, overdue)

    def ended(self, seconds: float, *, overdue: bool = False) -> None:
        """Count such a call, which took so many *seconds*, and went well or was *overdue*."""
        self.counts.calls += 1
        self.counts.seconds += seconds
        if overdue:
            self.timeouts += 1
            self.failed(Overdue(f"no answer within {self.deadline:g} s"))
        else:
            self.breaker.succeeded()

    async def open(self) -> None:
        """Open the tier. Raises TierRefused where it never will work; is content with one that is away."""
        self._closed = False
        try:
            await self._deadlines.within(max(OPENING, self.deadline), self._open)
        except TierRefused:
            raise
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; it is counted and logged
            self.failed(error)
            self.breaker.trip()
        else:
            self._opened = True

    async def _open(self) -> None:
        if not self._entered:
            await self.tier.open()
            self._entered = True
        if self._after is not None:
            await self._after()

    async def close(self) -> None:
        """Close the tier, whatever state it is in."""
        self._opened = self._entered = False
        self._closed = True
        self._deadlines.end()
        await self.tier.close()

    async def call(
        self,
        act: Callable[..., Awaitable[T]],
        *arguments: Any,
        passing: tuple[type[Exception], ...] = (),
        limit: float | None = None,
        given_up: Callable[[], None] | None = None,
    ) -> T | None:
        """Return what `act(*arguments)` brings within *limit* seconds, or None where the tier failed.

        Errors of the types *passing* are answers, not failures, and are raised. *given_up* is called where
        the call goes on although it was cancelled; without it the caller waits on.
        """
        if self._closed or self._deadlines.strays or not self.breaker.admit():
            return None
        if self.watch is None:
            return await self._call(act, arguments, passing, limit, given_up)
        with self.watch.far(self.name, self.tier, act, arguments) as call:
            result = await self._call(act, arguments, passing, limit, given_up, call)
            call.ended(result)
            return result

    async def _call(
        self,
        act: Callable[..., Awaitable[T]],
        arguments: Sequence[Any],
        passing: tuple[type[Exception], ...],
        limit: float | None,
        given_up: Callable[[], None] | None,
        call: FarCall | None = None,
    ) -> T | None:
        limit = limit or self.deadline
        began = perf_counter()
        try:
            if not self._opened:
                await self._deadlines.within(limit, self._open, given_up=given_up)
                self._opened = not self._closed
            result = await self._deadlines.within(limit, act, *arguments, given_up=given_up)
        except passing:
            self.breaker.succeeded()
            raise
        except asyncio.CancelledError as error:
            if under_cancellation():
                self.breaker.withdrawn()
                raise
            self.failed(error)
            if call is not None:
                call.failed(error)
            return None
        except Exception as error:  # noqa: BLE001 - likewise
            self.timeouts += isinstance(error, Overdue)
            self.failed(error)
            if call is not None:
                call.failed(error)
            if not self._opened:
                self.breaker.trip()
            return None
        finally:
            self.counts.calls += 1
            self.counts.seconds += perf_counter() - began
        self.breaker.succeeded()
        if not self.available:
            self.available = True
            log.info("tier %s is back", self.name, extra={"tiercache_tier": self.name})
        return result

    async def wipe(
        self, act: Callable[[], Awaitable[object]], given_up: Callable[[], None] | None = None
    ) -> bool | None:
        """Do *act*, which drops everything; return True, or None where the tier failed."""

        async def wiped() -> bool:
            await act()
            return True

        return await self.call(wiped, limit=max(WIPING, self.deadline), given_up=given_up)

    def failed(self, error: BaseException) -> None:
        """Count *error*; log it where the tier was well until now."""
        self.counts.errors += 1
        self.last_error = f"{type(error).__name__}: {error}"
        self.breaker.failed()
        if self.available:
            self.available = False
            log.warning(
                "tier %s is lost, reads miss and writes are skipped: %s: %s",
                self.name,
                type(error).__name__,
                error,
                extra={"tiercache_tier": self.name},
            )

    def _told(self, state: State) -> None:
        # A probe that fails is no news: of a long outage, the beginning and the end are told.
        news = state != "half-open" and state != self._last_told
        if news:
            self._last_told = state
        log.log(
            logging.INFO if news else logging.DEBUG,
            "tier %s: its breaker is %s",
            self.name,
            state,
            extra={"tiercache_tier": self.name},
        )
