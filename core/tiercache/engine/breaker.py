"""A circuit breaker: after enough failures a tier is left alone for a while, then tried with one call.

The idea is Michael Nygard's ("Release It!", 2007). Failures are judged over the last few calls and not over
all of a time span: before a tier that answered thousands of calls in that span could be found guilty, the
callers of a hung one would wait for as many more.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

State = Literal["closed", "open", "half-open"]

CALLS: Final = 10
"""The last calls that are judged."""
FAILURES: Final = 5
"""How many of them must have failed: half of them, and never fewer."""
WINDOW: Final = 30.0
"""Seconds after which a call is no longer judged."""
PAUSE: Final = 1.0
"""Seconds for which a tier is left alone, the first time."""
LONGEST_PAUSE: Final = 30.0
"""Seconds that no pause exceeds; each failed probe doubles it."""
JITTER: Final = 0.25
"""The share of a pause that chance may take off, so that processes do not all come back at once."""


class Breaker:
    """The judgement over one tier. Pure: it is told of calls and asked whether the next one may be made.

    *monotonic* gives seconds, *chance* a number from 0 to 1, *told* is called with each new state.
    """

    __slots__ = (
        "_calls",
        "_chance",
        "_closed_at",
        "_monotonic",
        "_pause",
        "_told",
        "_until",
        "_window",
        "state",
    )

    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        chance: Callable[[], float] = random.random,
        told: Callable[[State], None] | None = None,
        window: float = WINDOW,
    ) -> None:
        self.state: State = "closed"
        self._monotonic = monotonic
        self._chance = chance
        self._told = told
        self._window = window
        self._calls: deque[tuple[float, bool]] = deque(maxlen=CALLS)
        self._until = 0.0
        self._pause = 0.0
        self._closed_at = -window

    def barred(self) -> bool:
        """Whether a call would be refused now. Asking changes nothing."""
        if self.state == "closed":
            return False
        return self.state == "half-open" or self._monotonic() < self._until

    def admit(self) -> bool:
        """Whether the caller may call the tier now. It then owes `succeeded`, `failed` or `withdrawn`."""
        if self.state == "closed":
            return True
        if self.state == "half-open" or self._monotonic() < self._until:
            return False
        self._become("half-open")
        return True

    def succeeded(self) -> None:
        """Take note of a call that the tier answered. One is enough after a pause."""
        now = self._monotonic()
        if self.state == "closed":
            self._calls.append((now, True))
            return
        # Also where the breaker is open: a call from before it opened came back, so the tier is well.
        self._calls.clear()
        self._closed_at = now
        self._become("closed")

    def failed(self) -> None:
        """Take note of a call that the tier did not answer."""
        now = self._monotonic()
        if self.state == "open":
            return
        if self.state == "half-open":
            self._rest(now)
            return
        self._calls.append((now, False))
        while self._calls[0][0] < now - self._window:
            self._calls.popleft()
        if sum(not well for _, well in self._calls) >= FAILURES:
            self._rest(now)

    def withdrawn(self) -> None:
        """Take note that a call was given up by its caller, and said nothing about the tier."""
        if self.state == "half-open":
            self._until = self._monotonic()
            self._become("open")

    def trip(self) -> None:
        """Open now: the tier is known to be away."""
        if self.state != "open":
            self._rest(self._monotonic())

    def _rest(self, now: float) -> None:
        # One that closed a moment ago was closed too early: reads that work beside writes that fail, say.
        relapsed = self.state == "half-open" or now - self._closed_at < self._window
        self._pause = min(self._pause * 2, LONGEST_PAUSE) if relapsed and self._pause else PAUSE
        self._until = now + self._pause * (1 - JITTER * self._chance())
        self._calls.clear()
        self._become("open")

    def _become(self, state: State) -> None:
        self.state = state
        if self._told is not None:
            self._told(state)
