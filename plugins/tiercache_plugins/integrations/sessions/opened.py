"""OpenedSession: what is known of a session when it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session that is alive."""

    data: dict[str, Any]
    started: float
    """When it began, in seconds since the epoch."""
    issued: float
    """When it was given its id."""
    left: float
    """Seconds until it ends, however much it is used."""
