"""What a route's loads go by, beside the life of what they bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

REARM: Final = 5.0
"""Seconds before a loader that failed is tried again where something still stands in for it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Options of a route that concern loading. Durations are seconds; None switches off."""

    soft_timeout: float | None = None
    """After it, callers are given a stale copy, where there is one, and the load goes on."""
    hard_timeout: float | None = None
    """After it, callers are given a stale copy or LoadTimeout, and the load goes on."""
    refresh_ahead: float | None = None
    """Share of an entry's life after which a read starts a load in the background."""
    sliding: float | None = None
    """Seconds for which an entry lives that nobody reads; its life ends at the latest when its ttl does."""
    jitter: float = 0.0
    """The most by which a life is shortened, as a share of it."""
    negative_ttl: float | None = None
    """Life of a None that a loader brought."""
    coherent: bool = False
    """Whether each read asks the authority if the near copy is still what it holds."""
    negative_errors: bool = False
    """Whether errors of loaders are remembered for `negative_ttl`, too."""
    lock: bool = False
    """Whether one process at a time loads a key."""
