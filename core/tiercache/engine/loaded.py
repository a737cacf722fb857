"""What a loader is given, and what it may return beside a value alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiercache.contracts import Life
from tiercache.units import seconds


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a loader may return instead of a value alone: the value, and what it is to be stored with."""

    value: Any
    ttl: float | None = None
    """Seconds that it is fresh; None: as the call or the route says."""
    stale: float | None = None
    """Seconds after that during which it may serve as a stale copy."""
    tags: tuple[str, ...] | None = None
    """In place of the call's tags."""
    more_tags: tuple[str, ...] = ()
    """Beside the tags that it has by now."""
    store: bool = True
    """False: the callers are given the value, and no tier keeps it."""

    def life(self, asked: Life) -> Life:
        """Return what the value is stored with, where the call *asked* for something."""
        tags = asked.tags if self.tags is None else tuple(self.tags)
        return Life(
            asked.ttl if self.ttl is None else seconds(self.ttl),
            asked.stale if self.stale is None else self.stale,
            tuple(dict.fromkeys((*tags, *self.more_tags))) if self.more_tags else tags,
        )


@dataclass(frozen=True, slots=True)
class LoadContext:
    """What a loader that takes one argument is given."""

    key: str
    """The key that is loaded."""
    stale: Any
    """The stale copy that stands, for loaders that can update or confirm it; MISSING where there is none."""
