"""A clock that stands still until it is told to move."""

from __future__ import annotations


class FakeClock:
    """Seconds that only `advance` moves. Give it to `Cache.open(clock=…)`."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move on by *seconds*; less than zero is a step back."""
        self.now += seconds
